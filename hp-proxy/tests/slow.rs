//! Slow and greedy peers, in simulated time: what is too slow ends, what is only slow does not, and nobody makes the proxy
//! hold more than a bound.
#![expect(
    clippy::unwrap_used,
    reason = "facts are functions of a test, not tests themselves"
)]

#[path = "slow/lab.rs"]
mod lab;
#[path = "slow/memory.rs"]
mod memory;
#[path = "slow/time.rs"]
mod time;

use hp_core::rt::sim::Face;

/// Makes a test of each fact, on each face of the kernel.
macro_rules! facts {
    ($($subject:ident: $($fact:ident),+;)+) => {
        mod readiness {
            $($(#[test] fn $fact() { crate::$subject::$fact(crate::Face::Readiness); })+)+
        }
        mod completion {
            $($(#[test] fn $fact() { crate::$subject::$fact(crate::Face::Completion); })+)+
        }
    };
}

facts! {
    time:
        a_slow_reader_that_reads_on_gets_all,
        a_reader_below_the_rate_is_cut,
        a_client_that_sends_all_and_takes_nothing_is_cut,
        a_client_that_sends_on_and_takes_nothing_is_cut,
        a_reader_below_the_rate_is_served_where_there_is_no_rate,
        a_slow_sender_above_the_rate_is_answered,
        a_sender_below_the_rate_is_408,
        a_backend_that_reads_on_may_pause_in_its_answer,
        a_backend_that_says_little_for_an_hour_is_passed_on,
        content_that_need_not_come_does_not_end_the_answer,
        both_bodies_may_be_on_their_way_for_an_hour,
        continue_is_said_in_the_backends_stead,
        continue_is_not_said_into_an_answer_that_has_begun,
        who_never_says_continue_is_504_where_the_proxy_says_none,
        a_client_that_was_told_to_go_on_and_does_not_is_408,
        a_tunnel_in_which_a_slow_end_takes_bytes_is_not_silent,
        a_tunnel_is_silent_from_its_last_byte_on;
    memory:
        a_backend_that_does_not_read_stops_its_client,
        a_client_that_does_not_read_stops_its_backend,
        a_thousand_slow_readers_hold_a_bound_each,
        idle_connections_hold_nothing,
        interim_answers_that_nobody_reads_are_bounded;
}
