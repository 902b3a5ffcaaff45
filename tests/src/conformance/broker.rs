//! What every broker promises (`umbel::brokers`).

mod admin;
mod holding;
mod letters;
mod nodes;
mod order;
mod together;
mod waiting;

pub use self::{admin::*, holding::*, letters::*, nodes::*, order::*, together::*, waiting::*};

/// Makes one test of every case of the broker suite.
#[macro_export]
macro_rules! broker_conformance {
    ($stage:ty) => {
        $crate::conformance_cases!(
            $stage,
            $crate::conformance::broker,
            [
                messages_leave_in_the_order_they_came,
                what_belongs_together_comes_together,
                urgent_messages_leave_first,
                queues_take_turns,
                a_busy_queue_leaves_room_for_others,
                a_fetch_returns_no_more_than_asked_for,
                a_message_comes_out_as_it_went_in,
                a_named_exchange_leads_to_the_routes_queue,
                a_fetch_waits_for_a_message,
                other_queues_do_not_disturb,
                a_dropped_fetch_loses_nothing,
                a_dead_consumers_wait_takes_nothing,
                a_dropped_debt_returns_its_message,
                a_scheduled_message_waits_for_its_time,
                a_scheduled_message_survives,
                many_become_due_at_once,
                an_acknowledged_message_is_gone,
                only_the_newest_attempt_may_settle,
                an_unknown_delivery_is_not_held,
                a_requeued_message_is_first_and_counts_its_crashes,
                a_message_is_sent_on_in_one_step,
                a_requeued_message_waits_for_its_time,
                a_requeued_messages_old_attempt_is_over,
                a_lost_nodes_messages_come_back_in_order,
                a_live_nodes_messages_are_never_given_to_others,
                a_new_subscription_of_a_node_keeps_its_messages,
                closing_gives_everything_back,
                a_begun_message_comes_back_as_lost,
                a_begun_message_can_end,
                a_begun_message_can_be_put_back,
                everything_published_survives,
                everything_held_comes_back_after_a_crash,
                queues_tell_what_they_have,
                empty_queues_are_not_listed,
                a_purge_spares_what_is_held,
                nodes_are_told_while_they_hold_a_lease,
                a_node_that_subscribes_twice_is_one,
                a_large_purge_leaves_nothing,
                a_paused_queue_hands_nothing_out,
                a_pause_survives,
                peeking_takes_nothing,
                a_dead_letter_keeps_its_story,
                dead_letters_are_listed_newest_first,
                a_dead_letter_can_be_sent_again,
                a_dead_letter_can_be_dropped,
                dead_letters_are_bounded,
                revocations_are_heard_and_survive,
                changes_to_tasks_are_heard_and_survive,
                a_subscription_takes_from_nothing,
                a_subscription_takes_from_other_queues,
                nothing_is_lost_or_doubled_among_many,
                nothing_is_lost_or_doubled_when_nodes_die,
            ]
        );
    };
}
