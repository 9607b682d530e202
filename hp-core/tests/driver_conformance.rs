//! The contract of the engines, proven on each of them by the same facts over real sockets.
//!
//! A new engine is one more `stamp!` line. A fact is a function that gets an engine; the modules
//! have one subject each. `HP_SEED=N` replays one seed of the facts that draw lots;
//! `HP_WITHOUT_URING=1` lets a machine without io_uring pass, and says so.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the other end of each connection is a plain blocking socket on a plain thread"
)]
#![expect(
    clippy::unwrap_used,
    reason = "facts are functions of a test, not tests themselves"
)]

#[path = "driver_conformance/buffers.rs"]
mod buffers;
#[path = "driver_conformance/closing.rs"]
mod closing;
#[path = "driver_conformance/deadlines.rs"]
mod deadlines;
#[path = "driver_conformance/dialling.rs"]
mod dialling;
#[path = "driver_conformance/discarding.rs"]
mod discarding;
#[path = "driver_conformance/failing.rs"]
mod failing;
#[path = "driver_conformance/lab.rs"]
mod lab;
#[path = "driver_conformance/listening.rs"]
mod listening;
#[path = "driver_conformance/order.rs"]
mod order;
#[path = "driver_conformance/parking.rs"]
mod parking;
#[path = "driver_conformance/peer.rs"]
mod peer;
#[path = "driver_conformance/releasing.rs"]
mod releasing;
#[path = "driver_conformance/sending.rs"]
mod sending;
#[path = "driver_conformance/splicing.rs"]
mod splicing;
#[path = "driver_conformance/tasks.rs"]
mod tasks;

use hp_core::rt::Engine;

/// Makes a test of each fact.
macro_rules! facts {
    ($engine:expr; $($subject:ident: $($fact:ident),+;)+) => {
        $($(
            #[test]
            fn $fact() {
                crate::$subject::$fact($engine);
            }
        )+)+
    };
}

/// Proves every fact on one engine.
macro_rules! stamp {
    ($name:ident, $engine:expr) => {
        mod $name {
            use super::Engine;

            facts! { $engine;
                order:
                    both_directions_at_once_are_complete_and_in_order,
                    a_dropped_receive_loses_nothing,
                    a_receive_dropped_after_every_poll_loses_nothing,
                    the_end_comes_once_after_all_data_and_again_if_asked_again,
                    an_error_comes_after_all_data,
                    an_error_is_found_behind_data_that_came_before_the_receive,
                    the_end_stays_the_end_when_a_reset_follows,
                    what_has_arrived_is_known_before_anything_is_received,
                    bytes_put_back_come_first,
                    readable_takes_nothing,
                    a_failure_is_noticed_and_neither_bytes_nor_an_end_is_one,
                    news_that_nobody_takes_costs_no_turns;
                dialling:
                    a_connection_that_is_reset_before_its_outcome_is_told_was_never_made;
                buffers:
                    lent_bytes_never_change_while_held,
                    a_hundred_connections_share_eight_buffers_and_a_tiny_ring,
                    connections_that_found_no_buffer_go_on_when_one_returns,
                    bytes_that_nobody_takes_leave_buffers_to_the_others,
                    a_connection_that_leaves_the_queue_for_buffers_takes_no_ones_place,
                    a_connection_that_waits_for_a_buffer_discards_without_one,
                    a_discard_that_finds_a_receive_armed_needs_no_buffer_either,
                    a_receive_that_found_no_buffer_ends_at_its_deadline,
                    a_connection_to_which_nothing_came_waits_for_no_buffer,
                    a_connection_that_leaves_the_queue_for_large_buffers_takes_no_ones_place,
                    an_end_that_waited_for_a_buffer_takes_no_ones_place,
                    waiting_for_a_buffer_costs_no_turns,
                    a_parked_connection_that_found_no_buffer_still_has_news,
                    a_parked_connection_that_found_no_buffer_has_news_after_its_deadline,
                    a_parked_connection_waits_for_a_buffer_past_its_deadline_and_costs_no_turns;
                discarding:
                    discarded_bytes_are_counted_and_what_follows_them_is_received,
                    received_and_put_back_bytes_are_discarded_first,
                    an_end_in_the_middle_of_what_is_discarded_is_told_after_it,
                    a_reset_is_told_after_what_could_be_discarded,
                    a_discard_ends_at_its_deadline_and_goes_on_with_a_new_one,
                    a_discard_dropped_after_every_poll_still_counts_every_byte,
                    a_receive_after_a_dropped_discard_gets_what_lies_behind_it,
                    a_connection_parked_while_it_discards_returns_with_what_lies_behind,
                    discarding_needs_no_buffer,
                    stamps_tell_when_bytes_were_discarded,
                    bytes_of_a_unix_socket_are_discarded_as_well;
                sending:
                    what_a_slow_peer_does_not_take_is_queued_and_arrives_whole,
                    received_pieces_queue_uncopied_and_arrive_in_order,
                    more_pieces_than_one_call_takes_arrive_whole,
                    what_is_written_in_one_turn_leaves_in_one_call,
                    what_is_written_last_in_a_loop_leaves_with_it,
                    what_is_gathered_in_one_turn_leaves_in_one_call_whatever_is_written_between,
                    gathered_written_and_large_bytes_keep_their_order,
                    more_connections_than_there_are_parcels_get_what_is_gathered,
                    what_is_withdrawn_never_leaves_and_nobody_elses_bytes_go_with_it,
                    a_name_leads_to_its_connection_as_long_as_that_has_an_owner,
                    stamps_tell_when_bytes_left_and_came_and_not_when_a_task_looked,
                    small_and_large_writes_received_pieces_and_the_end_keep_their_order,
                    what_was_just_written_leaves_before_its_connection_does,
                    a_send_that_fails_at_the_end_of_the_turn_is_no_end_of_data,
                    a_part_of_a_file_arrives_whole_and_in_its_place,
                    a_file_that_was_cut_short_fails_its_connection,
                    a_dropped_flush_loses_nothing,
                    sending_to_a_reset_connection_is_an_error_and_no_signal,
                    a_reset_ends_a_flush_that_waits,
                    an_echo_stands_a_peer_that_reads_by_fits_and_starts;
                splicing:
                    spliced_bytes_arrive_whole_in_both_directions_at_once,
                    what_was_written_before_leaves_before_what_is_spliced,
                    a_splice_that_waits_ends_with_the_deadline_and_with_a_reset,
                    a_connection_given_up_while_it_splices_leaves_nothing,
                    a_connection_that_received_is_not_spliced,
                    no_more_is_spliced_than_was_asked_for_and_what_follows_is_received,
                    what_stands_between_two_splices_is_received_and_no_more,
                    a_receive_between_two_splices_ends_with_the_deadline_and_with_the_peer,
                    a_splice_given_up_while_it_waits_leaves_the_bytes_to_a_receive,
                    a_connection_parked_after_a_splice_returns_with_what_comes,
                    a_splice_to_a_peer_that_does_not_read_goes_on_where_it_was_left,
                    an_urgent_byte_is_left_to_a_receive,
                    what_has_come_behind_a_splice_is_news,
                    a_receive_goes_on_behind_an_urgent_byte,
                    what_is_put_into_a_pipe_stands_between_what_is_spliced,
                    a_pipe_taken_empty_gets_what_has_come_or_goes_back,
                    a_reset_found_without_a_wait_is_told_to_who_waits;
                closing:
                    every_armed_operation_ends_exactly_once,
                    a_connection_attempt_given_up_leaves_nothing,
                    a_stale_completion_never_hits_a_new_connection,
                    a_released_connection_goes_on_in_another_runtime,
                    a_finished_side_still_receives,
                    a_side_that_was_finished_still_sends,
                    dropping_a_connection_sends_its_end,
                    a_reset_is_seen_as_a_reset_and_not_as_an_end,
                    handles_may_outlive_the_shutdown,
                    shutting_down_with_everything_in_flight_leaves_nothing;
                failing:
                    a_failure_is_noticed_behind_unread_bytes_in_a_large_buffer,
                    a_failure_is_noticed_behind_more_than_is_received_ahead,
                    a_failure_is_noticed_behind_an_end_behind_much_unread,
                    a_failure_is_noticed_by_who_has_used_its_turn_up,
                    an_end_behind_unread_bytes_is_no_failure_and_costs_no_turns,
                    a_peer_of_a_unix_socket_that_has_closed_behind_much_unread_has_failed,
                    an_end_right_behind_bytes_of_a_unix_socket_is_told,
                    an_end_of_both_sides_behind_much_unread_is_no_failure_and_costs_no_turns,
                    a_connection_that_was_watched_is_released_when_it_idles,
                    a_connection_that_was_watched_is_parked_as_any_other,
                    a_watched_connection_leaves_nothing_when_it_is_given_up;
                releasing:
                    an_idle_connection_is_released_by_every_engine,
                    what_comes_as_a_connection_is_released_is_lost_to_nobody,
                    a_connection_that_could_not_be_released_goes_on,
                    a_release_that_is_dropped_closes_its_connection;
                deadlines:
                    a_refused_connection_says_so,
                    a_connection_attempt_ends_at_its_deadline,
                    a_receive_ends_at_its_deadline,
                    a_deadline_moved_later_holds_the_later_one,
                    a_deadline_moved_earlier_holds_the_earlier_one,
                    a_deadline_taken_back_never_comes,
                    attempts_that_were_decided_before_their_deadline_have_their_outcome,
                    data_that_came_before_the_deadline_is_delivered_after_it,
                    data_noticed_together_with_the_deadline_is_delivered,
                    data_noticed_together_with_the_deadline_is_delivered_in_large_buffers,
                    data_of_many_noticed_together_with_the_deadline_is_delivered,
                    data_that_came_while_others_were_told_is_delivered,
                    a_connection_goes_on_with_a_new_deadline,
                    a_flush_ends_at_its_deadline,
                    sleeps_end_in_the_order_of_their_deadlines;
                parking:
                    a_parked_connection_returns_with_its_news_and_its_tag,
                    a_parked_connection_returns_at_its_deadline,
                    news_of_many_parked_noticed_together_with_the_deadline_are_news,
                    what_idled_for_long_returns_with_its_news_and_can_be_taken_back,
                    what_idled_and_has_ended_is_not_taken_back,
                    a_parked_connection_can_be_taken_back,
                    the_end_of_a_parked_connection_is_news,
                    a_connection_parked_with_data_returns_at_once,
                    all_parked_connections_can_be_brought_back_at_once,
                    parked_connections_can_be_brought_back_earlier_one_by_one,
                    many_parked_connections_return_once_each;
                listening:
                    a_dropped_accept_loses_no_connection,
                    a_paused_listener_accepts_nothing_until_resumed,
                    pausing_and_resuming_in_any_order_loses_no_connection,
                    a_listener_goes_on_after_being_tried_while_paused,
                    a_unix_socket_is_accepted_from_by_all_who_have_it,
                    an_accepted_connection_may_live_in_another_runtime,
                    a_socket_of_either_mode_can_be_adopted,
                    running_out_of_descriptors_is_an_error_and_accepting_goes_on,
                    what_nobody_claims_waits_in_the_queue,
                    a_dropped_listener_closes_what_nobody_claimed;
                tasks:
                    a_panic_costs_its_own_connection_which_is_reset,
                    a_flood_starves_nobody,
                    a_task_that_always_finds_data_lets_others_run,
                    a_wake_made_while_leaving_the_loop_is_kept,
                    a_wake_survives_a_loop_run_inside_a_task,
                    two_workers_pass_messages_and_are_joined,
                    sixty_four_runtimes_all_make_progress,
                    a_load_run_starts_no_kernel_worker;
            }
        }
    };
}

stamp!(epoll, Engine::Epoll);
stamp!(threads, Engine::Threads);
stamp!(uring, Engine::Uring);
