//! What goes wrong on purpose: nodes that are killed, parts of them that panic, stores that go away; and how nodes end.

mod actors;
mod actors_end;
mod actors_outage;
mod actors_time;
mod amqp;
mod amqp_alarms;
mod amqp_nodes;
mod amqp_queues;
pub(crate) mod crash;
mod endings;
mod faulty;
mod python;
mod python_ahead;
mod python_crowd;
mod python_ends;
mod redis;
mod redis_nodes;
mod redis_others;
mod redis_outages;
mod redis_state;
mod rig;
