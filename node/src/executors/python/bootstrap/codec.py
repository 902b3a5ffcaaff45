"""Bodies and results: kombu's serializers, with one decoder and one encoder kept for the JSON that nearly all of them are.

kombu makes a new pair for every message, which costs more than the message. Where an application has registered a serializer of
its own under the name of JSON, that one is used.
"""

import json

from kombu.exceptions import EncodeError
from kombu.serialization import dumps as kombu_dumps
from kombu.serialization import loads as kombu_loads
from kombu.serialization import registry
from kombu.utils import json as kombu_json

JSON = "application/json"

decode_json = json.JSONDecoder(object_hook=kombu_json.object_hook).decode
encode_json = kombu_json.JSONEncoder().encode


def loads(data, content_type, content_encoding, accept):
    """As `kombu.serialization.loads`."""
    if content_type == JSON and JSON in accept and registry._decoders.get(JSON) is kombu_json.loads:
        return decode_json(data.decode("utf-8"))
    return kombu_loads(data, content_type, content_encoding, accept=accept)


def dumps(value, serializer):
    """A value as `(content type, bytes)`; raises `EncodeError`, as `kombu.serialization.dumps` does."""
    if serializer == "json" and registry._encoders["json"].encoder is kombu_json.dumps:
        try:
            return JSON, encode_json(value).encode("utf-8", "surrogatepass")
        except Exception as exc:
            raise EncodeError(exc) from exc
    content_type, _, payload = kombu_dumps(value, serializer=serializer)
    return content_type, payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else bytes(payload)
