"""Workflows of Python tasks (canvas_tasks.py): a client that says of each case what came of it.

The numbers are those of the canvas rules: `rule_*` hold for every worker; in the cases `w_*` Celery's own hangs, loses failures or
wedges, in the cases `p_*` it is wrong inside the process of the task, and a node has to be right.

Settings come from the environment: BROKER, BACKEND. Arguments: a prefix of the names of cases. Standard output: one JSON object, a
name of each case with null, or with what went wrong.
"""

import json
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor

from celery import chain, chord, group

from canvas_checks import case, CASES, E, endings, F, fails, fresh, noted, same, sent, settled, value, WAIT
from canvas_tasks import (
    add,
    app,
    bad_errback,
    become,
    echo,
    fail,
    flaky,
    insatiable,
    keyed,
    late,
    looking_errback,
    looking_old_errback,
    new_errback,
    note,
    notes,
    old_errback,
    pair,
    quiet,
    spawn,
    total,
    unlucky,
)


@case
def rule_01_arguments_of_calls_and_of_signatures():
    same(value(pair.s(2), (1,)), [1, 2])
    same(value(keyed.s(k=1, own=2), (0,), {"k": 3}), [0, {"k": 3, "own": 2}])
    same(value(pair.si(1, 2)), [1, 2])


@case
def rule_02_chains_hand_on_one_value():
    result = sent(chain(add.s(1, 2), add.s(3), echo.si("own"), pair.s("x")))
    same(result.get(timeout=WAIT), ["own", "x"])
    same([result.parent.get(timeout=WAIT), result.parent.parent.get(timeout=WAIT)], ["own", 6])


@case
def rule_03_nested_chains_are_one():
    linked = fresh()
    inner = chain(add.s(1), add.s(2))
    inner.link(note.s(linked))
    same(value(chain(E(1), chain(add.s(1), chain(add.s(1), pair.s("x"))))), [3, "x"])
    same((value(chain(E(1), inner, add.s(3))), noted(linked, 1)), (7, [4]))


@case
def rule_04_groups_keep_their_order():
    key = fresh()
    members = group(late.s(0, key, 1), note.s(1, key), add.s(1, 1))
    same(value(members), [0, 1, 2])
    same(sent(group()).get(timeout=WAIT), [])


@case
def rule_05_a_barrier_gathers_a_list():
    same(value(chain(group(E(1), E(2), E(3)), pair.s("x"))), [[1, 2, 3], "x"])
    same(value(chord([E(1)], pair.s("x"))), [[1], "x"])
    same(value(chord([E(1), E(2)], echo.si("own"))), "own")
    same(value(chain(E(1), group(), pair.s("x"))) in ([[], "x"], [1, "x"]), True)


@case
def rule_06_a_group_after_a_group():
    same(value(chain(group(E(1), E(2)), group(pair.s("a"), pair.s("b")))), [[[1, 2], "a"], [[1, 2], "b"]])
    same(value(chain(group(E(1), E(2)), group(total.s(), total.s()), total.s())), 6)


@case
def rule_07_composites_in_headers():
    same(value(chord([chain(E(1), add.s(1)), E(5)], echo.s())), [2, 5])
    same(value(chord([chord([E(1), E(2)], total.s()), E(5)], echo.s())), [3, 5])
    same(value(chord([chain(E(1), group(add.s(1), add.s(2))), E(5)], echo.s())), [[2, 3], 5])
    deep = chord([chord([chord([E(1), E(2)], total.s()), E(3)], total.s()), E(4)], total.s())
    same(value(deep), 10)


@case
def rule_08_groups_in_root_groups_stay_nested():
    same(value(group(E(1), chain(E(1), group(add.s(1), add.s(2))))), [1, [2, 3]])
    same(value(group(E(1), group(E(2), E(3)), E(4))), [1, 2, 3, 4])


@case
def rule_09_maps_and_chunks():
    same(value(add.starmap([(1, 2), (3, 4)])), [3, 7])
    same(value(chain(E(0), echo.map([1, 2]), total.s())), 3)
    same(value(chord([echo.map([1, 2]), E(3)], echo.s())), [[1, 2], 3])
    same(value(add.chunks([(1, 1), (2, 2), (3, 3)], 2)), [[2, 4], [6]])


@case
def rule_10_a_body_runs_once_and_after_all_members():
    members, body = fresh(), fresh()
    header = [note.s(n, members) for n in range(9)] + [late.s(9, members, 9)]
    same(value(chord(header, note.s(body))), list(range(10)))
    settled()
    same(notes(body), [list(range(10))])


@case
def rule_11_retries_keep_everything():
    key, linked, failed = fresh(), fresh(), fresh()
    workflow = chain(flaky.s("v", 2, key).on_error(note.si("failed", failed)), pair.s("next"))
    workflow.tasks[0].link(note.s(linked))
    same(value(workflow), ["v", "next"])
    same((notes(key), noted(linked, 1), notes(failed)), ([0, 1, 2], ["v"], []))
    key = fresh()
    same(value(chord([flaky.s(1, 3, key), E(2)], total.s())), 3)
    same(notes(key), [0, 1, 2, 3])
    fails(insatiable.s(False), "MaxRetriesExceededError")
    fails(insatiable.s(True), "ValueError")
    key = fresh()
    fails(unlucky.s(key), "KeyError")
    same(len(notes(key)), 4)


@case
def rule_12_ignored_results_flow_on():
    result = sent(chain(E(1), quiet.s(), add.s(1)))
    same((result.get(timeout=WAIT), app.AsyncResult(result.parent.id).state), (2, "PENDING"))
    same(value(chord([quiet.s(1), E(2)], total.s())), 3)


@case
def rule_13_replacements_take_the_place():
    linked = fresh()
    result = sent(become.s(chain(E(1), add.s(1))))
    same(result.get(timeout=WAIT), 2)
    same(value(chain(become.s(E(1)), add.s(1), become.si(add.s(2, 3)), add.s(1))), 6)
    same(value(become.s(group(E(1), E(2)))), [1, 2])
    same(value(chain(become.s(group(E(1), E(2))), total.s())), 3)
    same(value(chord([become.s(group(E(1), E(2))), E(3)], echo.s())), [[1, 2], 3])
    same(value(chord([E(1), E(2)], become.si(E(7)))), 7)
    same(value(become.s(become.s(E("deep")))), "deep")
    same(value(become.s(chord([E(1), E(2)], total.s()))), 3)
    result = sent(become.s(E(9)).set(link=note.s(linked)))
    same((result.get(timeout=WAIT), noted(linked, 1)), (9, [9]))


@case
def rule_14_spawned_tasks_are_children():
    result = sent(spawn.s(4))
    same(result.get(timeout=WAIT), 4)
    same([child.get(timeout=WAIT) for child in result.children], [4])


@case
def rule_15_large_workflows():
    same(value(group(E(n) for n in range(100))), list(range(100)))
    same(value(chain(E(1), group(add.s(n) for n in range(100)), total.s())), sum(range(1, 101)))
    same(value(chain(E(0), *[add.s(1) for _ in range(30)])), 30)


@case
def rule_16_a_failing_step_fails_the_plain_steps_after_it():
    key = fresh()
    result = fails(chain(E(1), F(), note.s(key), echo.s()), "ValueError")
    same(endings(result.parent)[0][1], "ValueError")
    same(notes(key), [])


@case
def rule_17_a_failing_member_fails_the_body_when_all_are_done():
    key, body = fresh(), fresh()
    result = sent(chord([F(), note.s(1, key), late.s(2, key, 1)], note.s(body)))
    ((state, name, text),) = endings(result)
    same((state, name, text.startswith("Dependency "), text.endswith("raised ValueError('bad')")), ("FAILURE", "ChordError", True, True))
    same((notes(key), notes(body)), ([1], []))
    fails(chord([E(1)], F()), "ValueError")


@case
def rule_18_an_expired_task_is_revoked():
    key = fresh()
    expired = echo.s(1).set(expires=-10)
    result = sent(expired.on_error(note.si("e", key)))
    ((state, name, text),) = endings(result)
    same((state, name, text), ("REVOKED", "TaskRevokedError", "expired"))
    fails(chord([echo.s(1).set(expires=-10), E(2)], echo.s()), "ChordError")
    same(notes(key), [])


@case
def rule_19_links_are_called_once_after_success():
    a, b, c = fresh(), fresh(), fresh()
    linked = echo.s("v")
    linked.link(note.s(a))
    linked.link(note.s(b))
    linked.link(fail.s().on_error(note.si("own", c)))
    same(value(linked), "v")
    same((noted(a, 1), noted(b, 1), noted(c, 1)), (["v"], ["v"], ["own"]))
    key = fresh()
    linked = chord([E(1), E(2)], total.s())
    linked.link(note.s(key))
    same(value(linked), 3)
    same(noted(key, 1), [3])


@case
def rule_20_errbacks_of_both_styles():
    old, new = fresh(), fresh()
    failing = F()
    failing.link_error(old_errback.s(key=old))
    failing.link_error(new_errback.s(new))
    result = fails(failing, "ValueError")
    same((noted(old, 1), noted(new, 1)), ([result.id], [[result.id, "ValueError", "bad"]]))
    key, tries = fresh(), fresh()
    retried = unlucky.s(tries)
    retried.link_error(old_errback.s(key=key))
    result = fails(retried, "KeyError")
    same((noted(key, 1), len(notes(tries))), ([result.id], 4))


@case
def rule_20_errbacks_find_what_they_are_called_for():
    for _ in range(5):
        new, old = fresh(), fresh()
        failing = F()
        failing.link_error(looking_errback.s(new, []))
        failing.link_error(looking_old_errback.s(key=old))
        fails(failing, "ValueError")
        same((noted(new, 1), noted(old, 1)), ([["FAILURE"]], ["FAILURE"]))
        # In the header of a chord that waits for others, and at the head of a chain.
        key, waits, rest = fresh(), fresh(), echo.s()
        after = rest.freeze().id
        failing = chain(F().on_error(looking_errback.s(key, [after])), rest)
        sent(chord([failing, late.si(1, waits, 1)], total.s()))
        same(noted(key, 1), [["FAILURE", "FAILURE"]])
        note.delay(1, waits)


@case
def rule_21_errbacks_of_composites():
    for failing in (chain(F(), echo.s()), chain(E(1), F())):
        key = fresh()
        failing.link_error(old_errback.s(key=key))
        fails(failing)
        same(len(noted(key, 1)), 1)
    key = fresh()
    failing = chord([F(), F(), E(1)], echo.s())
    failing.link_error(old_errback.s(key=key))
    result = fails(failing, "ChordError")
    settled()
    same(notes(key), [result.id])


@case
def rule_22_errbacks_of_a_replaced_task_are_the_replacements():
    for replacement in (F(), chain(E(1), F()), group(F(), E(1)), chord([F(), E(1)], E())):
        key = fresh()
        failing = become.s(replacement)
        failing.link_error(old_errback.s(key=key))
        fails(failing)
        settled()
        same(len(noted(key, 1)), 1)


@case
def rule_23_results_know_their_children_and_parents():
    first = sent(chain(E(1), add.s(1)))
    first.get(timeout=WAIT)
    same([child.id for child in first.parent.children], [first.id])
    body = sent(chain(E(1), group(add.s(1), add.s(2)), total.s()))
    same(body.get(timeout=WAIT), 5)
    header = body.parent
    same([member.get(timeout=WAIT) for member in header.results], [2, 3])
    same([[member.children for member in header.results], [child.id for child in header.parent.children]], [[[], []], [header.id]])
    failed = fails(chain(F(), add.s(1)))
    same((failed.parent.state, failed.parent.children), ("FAILURE", []))


@case
def w_01_composites_after_a_failing_step_fail_as_well():
    for workflow in (
        chain(F(), group(E(), E())),
        chain(F(), group(E(), E()), E()),
        chain(F(), E(), chord([E(), E()], E())),
    ):
        fails(workflow, "ValueError")
    body = fresh()
    fails(chord([chain(F(), group(E(), E()), E()), E(1)], note.s(body)), "ChordError")
    same(notes(body), [])


@case
def w_02_an_inner_header_that_fails_fails_the_outer_chord():
    fails(chord([chord([F(), E(1)], E()), E(2)], E()), "ChordError")
    fails(chain(group(chord([F(), E(1)], E()), E(2)), E()), "ChordError")


@case
def w_03_a_failing_barrier_fails_the_whole_rest_of_the_chain():
    fails(chain(E(1), group(F(), E()), E(), E()), "ChordError")
    fails(chain(chord([F()], chain(E(), E())), E()), "ChordError")
    fails(chain(group(F(), E(1)), E(), chain(E())), "ChordError")
    key = fresh()
    failing = chain(E(1), group(F(), E()), E(), E())
    failing.link_error(old_errback.s(key=key))
    fails(failing)
    settled()
    same(len(noted(key, 1)), 1)


@case
def w_04_bodies_that_are_chords_or_end_in_groups_fail():
    fails(chain(group(F(), E(1)), group(E(), E()), E()), "ChordError")
    fails(chord([F(), E(1)], chain(E(), group(E(), E()))), "ChordError")


@case
def w_05_the_members_of_a_body_group_fail_with_the_original_exception():
    key = fresh()
    failing = chord([F(), E(1)], group(E().on_error(old_errback.s(key=key)), E()))
    fails(failing, "ValueError")
    same(len(noted(key, 1)), 1)


@case
def w_06_what_follows_an_expired_step_ends():
    for workflow in (chain(E(1).set(expires=-10), E(), E()), chain(E(1), E().set(expires=-10), E())):
        ((state, name, _),) = endings(sent(workflow))
        assert state in ("REVOKED", "FAILURE"), f"{state} {name}"
    fails(chord([chain(E(1).set(expires=-10), E()), E(2)], E()), "ChordError")


@case
def w_07_a_failing_step_without_a_result_fails_the_chain():
    fails(chain(F().set(ignore_result=True), E()), "ValueError")


@case
def w_08_a_link_on_a_chain_that_ends_in_a_barrier_is_called():
    key = fresh()
    linked = chain(E(1), group(E(), E()), E())
    linked.link(note.s(key))
    same((value(linked), noted(key, 1)), ([1, 1], [[1, 1]]))


@case
def w_09_a_member_that_ends_in_an_empty_group_is_a_member():
    same(value(chord([chain(E(1), group()), E(2)], E()))[-1], 2)


@case
def w_10_a_replacement_group_that_fails_fails_the_chord():
    fails(chord([become.s(group(F(), E(1))), E(2)], E()), "ChordError")


@case
def w_11_complex_headers_wedge_nobody():
    workflows = []
    for _ in range(10):
        workflows.append((chord([chain(E(1), group(E(), E())), E(2)], E()), [[1, 1], 2]))
        workflows.append((chord([chain(E(1), group(quiet.s(), E())), E(2)], E()), [[1, 1], 2]))
        workflows.append((chord([chord([E(1), E(1)], group(E(), E())), E(2)], E()), [[[1, 1], [1, 1]], 2]))
    for result, expected in [(sent(workflow), expected) for workflow, expected in workflows]:
        same(result.get(timeout=WAIT), expected)


@case
def w_12_errbacks_of_the_first_task_of_a_body_chain_are_called():
    key = fresh()
    fails(chord([F()], chain(E().on_error(old_errback.s(key=key)), E())), "ChordError")
    settled()
    same(len(noted(key, 1)), 1)


@case
def p_13_retries_and_replacements_keep_ignore_result():
    key, ended = fresh(), fresh()
    quietly = flaky.s("v", 2, key).set(ignore_result=True)
    quietly.link(note.s(ended))
    result = sent(quietly)
    same((noted(ended, 1), notes(key)), (["v"], [0, 1, 2]))
    same(app.AsyncResult(result.id).state in ("PENDING", "RETRY"), True)
    ended = fresh()
    quietly = become.s(E("v")).set(ignore_result=True)
    quietly.link(note.s(ended))
    result = sent(quietly)
    same((noted(ended, 1), app.AsyncResult(result.id).state), (["v"], "PENDING"))


@case
def p_14_links_of_a_task_that_a_chain_replaces_run_once():
    key = fresh()
    same(value(become.s(chain(E(1), E())).set(link=note.s(key))), 1)
    settled()
    same(noted(key, 1), [1])


@case
def p_15_a_map_takes_the_place_of_a_task():
    replaced = become.s(echo.map([1, 2]))
    same(value(replaced), [1, 2])
    same(value(chord([replaced, E(3)], E())), [[1, 2], 3])


@case
def p_16_a_chain_that_ends_in_a_group_takes_the_place_of_a_task():
    replaced = become.s(chain(E(1), group(E(), add.s(1))))
    same(value(replaced), [1, 2])
    for _ in range(10):
        same(value(chord([replaced, E(3)], E())), [[1, 2], 3])


@case
def p_17_an_errback_that_raises_harms_nobody():
    bad, good = fresh(), fresh()
    failing = F()
    failing.link_error(bad_errback.s(bad))
    failing.link_error(new_errback.s(good))
    result = fails(failing, "ValueError")
    same((noted(bad, 1), noted(good, 1)), ([result.id], [[result.id, "ValueError", "bad"]]))
    bad = fresh()
    failing = chord([F(), E(1)], E())
    failing.link_error(bad_errback.s(bad))
    result = fails(failing, "ChordError")
    settled()
    same(len(noted(bad, 1)), 1)
    same(endings(result)[0][1], "ChordError")
    key = fresh()
    failing = chord([F(), E(1)], E())
    failing.link_error(new_errback.s(key))
    result = fails(failing, "ChordError")
    ((failed, kind, text),) = noted(key, 1)
    same((failed, kind, text.startswith("Dependency ")), (result.id, "ChordError", True))


def tried(name):
    try:
        CASES[name]()
    except BaseException:  # noqa: BLE001 whatever it is, it is told
        return traceback.format_exc(limit=-2)
    return None


if __name__ == "__main__":
    names = [name for name in CASES if name.startswith(sys.argv[1])]
    with ThreadPoolExecutor(8) as threads:
        print(json.dumps(dict(zip(names, threads.map(tried, names)))))
