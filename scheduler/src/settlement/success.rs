//! The task returned: callbacks, next step, result, chord part.

use umbel_proto::{Chain, EncodeError, GroupId, Map, ResultTuple, Signature, State, Value, codec::Serializer};

use super::{Ending, Settlement, canvas_error, run::Run};
use crate::{
    Effect, PartResult, Release,
    canvas::{
        CanvasError,
        build::{Builder, Id},
        emit::Planner,
        node::{Cluster, Node},
    },
};

impl Run<'_> {
    /// Everything that follows from a value, ignored results included: only the id of an ignored one stays PENDING (rule 12).
    /// A value that cannot be written makes the task a failure, as does a successor that cannot be sent.
    pub(super) fn succeed(&self, value: Value, mut children: Vec<ResultTuple>) -> Settlement {
        let planned = self.storable(&value).map_err(CanvasError::from).and_then(|()| self.successors(&value, &mut children));
        let mut effects = match planned {
            Ok(effects) => effects,
            Err(error) => return self.fail(canvas_error(&error)),
        };
        if !self.is_ignored() {
            effects.push(self.store(State::Success, value.clone(), None, Some(children)));
        }
        effects.extend(self.part(PartResult::Value(value.clone())));
        effects.push(Effect::Release(Release::Ack));
        Settlement { effects, ending: Ending::Succeeded { value, shown: false } }
    }

    /// Whether a result can be written so that it can be read again. Only maps that look like one of kombu's special values need
    /// to be tried.
    fn storable(&self, value: &Value) -> Result<(), EncodeError> {
        if self.context.spec.own_types || !looks_special(value) {
            return Ok(());
        }
        Serializer::Json.encode(value).map(|_| ())
    }

    fn successors(&self, value: &Value, children: &mut Vec<ResultTuple>) -> Result<Vec<Effect>, CanvasError> {
        let embed = self.invocation.embed();
        if embed.callbacks.is_empty() && embed.chain.is_empty() {
            return Ok(Vec::new());
        }
        let mut planner = self.planner();
        self.callbacks(&embed.callbacks, value, &mut planner, children)?;
        self.next(&embed.chain, value, &mut planner, children)?;
        Ok(planner.effects)
    }

    /// Rule 19. One callback is sent as it is; of several, groups are sent as they are and the rest as one new group.
    fn callbacks(
        &self,
        callbacks: &[Signature],
        value: &Value,
        planner: &mut Planner<'_>,
        children: &mut Vec<ResultTuple>,
    ) -> Result<(), CanvasError> {
        let mut members = Vec::new();
        for (index, callback) in callbacks.iter().enumerate() {
            let node = Builder::new(self.id().as_str()).build(callback, &Id::Own, &format!("link.{index}"))?;
            let Some(mut node) = node else { continue };
            node.prepend(std::slice::from_ref(value), &Map::new());
            if callbacks.len() > 1 && !matches!(node, Node::Group(_)) {
                members.push(node);
            } else {
                children.push(node.result(None));
                planner.emit(node)?;
            }
        }
        if !members.is_empty() {
            let group = Node::Group(Cluster { id: GroupId::derive(self.id().as_str(), "links"), members, each: Vec::new() });
            children.push(group.result(None));
            planner.emit(group)?;
        }
        Ok(())
    }

    /// The next step of the chain, which is written next one last.
    fn next(&self, chain: &Chain, value: &Value, planner: &mut Planner<'_>, children: &mut Vec<ResultTuple>) -> Result<(), CanvasError> {
        let mut left = chain.clone();
        while let Some((step, mut rest)) = left.split_last() {
            // Labelled from the end of the chain, so that a step keeps its derived id however far the chain has come.
            let label = |rest: &Chain| format!("chain.{}", rest.len());
            let Some(mut node) = Builder::new(self.id().as_str()).build(step, &Id::Own, &label(&rest))? else {
                left = rest;
                continue;
            };
            // An empty group has no member to carry the rest on.
            if matches!(&node, Node::Group(cluster) if cluster.members.is_empty())
                && let Some((body, after)) = rest.split_last()
                && let Some(body) = Builder::new(self.id().as_str()).build(body, &Id::Own, &label(&after))?
                && let Node::Group(cluster) = node
            {
                rest = after;
                node = Node::Chord(cluster, Box::new(body));
            }
            node.prepend(std::slice::from_ref(value), &Map::new());
            children.push(node.child());
            return planner.emit_before(node, rest);
        }
        Ok(())
    }
}

fn looks_special(value: &Value) -> bool {
    match value {
        Value::List(list) => list.iter().any(looks_special),
        Value::Map(map) => (map.len() == 2 && map.contains_key("__type__")) || map.values().any(looks_special),
        _ => false,
    }
}
