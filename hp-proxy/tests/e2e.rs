//! The real program between a client and a backend that the tests play themselves, over real sockets.
//!
//! A fact is a function that gets an engine and is proven on each; the modules have one subject each.
//! `HP_WITHOUT_URING=1` lets a machine without io_uring pass: `auto` then takes its place.
#![expect(
    clippy::disallowed_methods,
    reason = "the other ends of the program's connections are plain blocking sockets"
)]
#![expect(
    clippy::unwrap_used,
    reason = "facts are functions of a test, not tests themselves"
)]

#[path = "e2e/balance.rs"]
mod balance;
#[path = "e2e/borrowing.rs"]
mod borrowing;
#[path = "e2e/changes.rs"]
mod changes;
#[path = "e2e/ends.rs"]
mod ends;
#[path = "e2e/example.rs"]
mod example;
#[path = "e2e/forwarding.rs"]
mod forwarding;
#[path = "e2e/messages.rs"]
mod messages;
#[path = "e2e/mirror.rs"]
mod mirror;
#[path = "e2e/multiplex.rs"]
mod multiplex;
#[path = "names/server.rs"]
#[allow(dead_code, reason = "the tests of the resolver use all of it")]
mod name_server;
#[path = "e2e/names.rs"]
mod names;
#[path = "e2e/process.rs"]
mod process;
#[path = "e2e/refusals.rs"]
mod refusals;
#[path = "e2e/reload.rs"]
mod reload;
#[path = "e2e/routes.rs"]
mod routes;
#[path = "e2e/service.rs"]
mod service;
#[path = "e2e/sticky.rs"]
mod sticky;
#[path = "e2e/support.rs"]
mod support;
#[path = "e2e/threads.rs"]
mod threads_only;
#[path = "e2e/unix.rs"]
mod unix;
#[path = "e2e/upgrade.rs"]
mod upgrade;
#[path = "e2e/upstreams.rs"]
mod upstreams;

/// How the program under test drives its sockets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Engine {
    Epoll,
    Threads,
    Uring,
}

impl Engine {
    fn flag(self) -> &'static str {
        match self {
            Self::Epoll => "--engine epoll",
            Self::Threads => "--engine threads",
            Self::Uring if std::env::var("HP_WITHOUT_URING").is_ok() => "--engine auto",
            Self::Uring => "--engine uring",
        }
    }
}

/// Makes a test of each fact.
macro_rules! facts {
    ($engine:expr; $($subject:ident: $($fact:ident),+;)+) => {
        $($(
            #[test]
            fn $fact() {
                crate::support::make_room();
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
                balance:
                    requests_are_shared_out_by_weight,
                    a_backup_is_asked_only_when_nobody_else_can_be,
                    requests_with_one_key_go_to_one_endpoint,
                    one_client_s_requests_go_to_one_endpoint_by_its_address,
                    the_endpoint_with_the_fewest_requests_is_asked,
                    the_first_endpoint_with_room_is_asked;
                changes:
                    endpoints_come_and_go_while_requests_are_in_flight,
                    a_change_outlives_a_reload_that_was_asked_for_before_it,
                    a_drained_endpoint_keeps_the_clients_that_are_bound_to_it,
                    an_endpoint_that_is_out_finishes_what_it_has,
                    nobody_in_service_is_503_at_once,
                    weights_change_the_shares,
                    a_route_is_closed_and_opened_again,
                    what_cannot_be_changed_is_told,
                    an_order_is_bounded,
                    what_is_kept_outlives_a_reload,
                    the_command_line_has_the_same_verbs,
                    the_command_line_says_what_it_waits_for_and_for_how_long,
                    the_command_line_believes_no_stranger,
                    a_page_that_does_not_take_a_method_says_which_it_takes;
                example:
                    the_whole_example_does_what_it_says,
                    the_example_changes_requests_as_it_says;
                sticky:
                    a_client_stays_with_the_endpoint_that_answered_it_first,
                    cookies_that_are_not_ours_bind_nobody,
                    a_client_whose_endpoint_is_gone_is_bound_anew,
                    a_client_stays_on_its_side_of_a_split,
                    groups_are_asked_in_the_order_of_their_priority;
                names:
                    the_servers_of_a_service_come_and_go_with_its_records,
                    names_are_followed_by_a_process_that_was_replaced,
                    names_are_followed_while_a_balancer_is_told_of_the_end,
                    a_name_that_does_not_resolve_stops_nothing,
                    without_any_server_a_request_is_503_until_its_name_resolves,
                    of_two_families_the_one_that_answers_is_used,
                    a_name_in_a_new_file_is_looked_up_before_the_file_is_followed;
                routes:
                    each_request_goes_where_its_most_specific_route_leads,
                    a_request_that_no_route_takes_is_told_so,
                    another_spelling_of_a_path_goes_around_no_route,
                    paths_and_fields_are_changed_as_the_route_says,
                    redirects_and_fixed_answers_come_from_the_proxy,
                    a_split_gives_each_upstream_its_share,
                    a_route_has_a_timeout_of_its_own,
                    operators_have_a_listener_of_their_own,
                    several_listeners_serve_the_same_routes;
                mirror:
                    a_copy_goes_to_the_mirror_and_its_answer_to_nobody,
                    content_is_copied_whole_up_to_a_length,
                    a_mirror_that_is_gone_or_silent_costs_the_client_nothing,
                    some_requests_are_never_copied;
                messages:
                    get_is_passed_on_and_answered,
                    head_gets_the_length_and_no_content,
                    answers_without_content_have_none_whatever_their_length_says,
                    post_by_length_streams_both_ways,
                    chunks_stream_both_ways_without_extensions_and_with_trailers,
                    a_client_that_writes_over_what_it_has_sent_moves_no_line,
                    a_request_cut_at_every_byte_arrives_whole,
                    a_response_cut_at_every_byte_arrives_whole,
                    a_hundred_pipelined_requests_are_answered_in_order,
                    a_client_of_http10_is_kept_only_when_it_asks,
                    chunks_reach_a_client_of_http10_as_plain_bytes_until_the_end,
                    what_a_backend_ends_by_closing_is_chunked_for_http11,
                    interim_answers_go_to_http11_and_not_to_http10,
                    the_body_waits_for_the_backends_continue,
                    an_answer_may_come_before_the_end_of_the_request,
                    fields_of_one_hop_stay_there,
                    origin_fields_say_what_the_proxy_saw,
                    an_absolute_target_decides_the_host,
                    an_upgrade_becomes_a_tunnel_until_both_ends_have_finished,
                    a_reset_goes_through_a_tunnel_in_both_directions,
                    a_tunnel_that_times_out_counts_as_such,
                    an_upgrade_that_is_given_up_is_a_reset,
                    continue_is_said_when_the_backend_does_not,
                    an_upgrade_that_is_declined_is_an_ordinary_exchange;
                forwarding:
                    a_request_that_was_here_before_is_refused,
                    each_proxy_has_a_name_of_its_own_in_via,
                    what_a_stranger_says_of_its_origin_is_dropped,
                    what_a_trusted_proxy_says_is_passed_on_and_added_to,
                    names_with_underscores_are_dropped_kept_or_refused,
                    options_and_trace_end_where_max_forwards_says,
                    an_answer_without_date_gets_one,
                    an_https_target_is_misdirected_unless_a_gateway_sends_it,
                    what_the_proxy_does_not_do_has_its_own_status,
                    an_upgrade_to_h2c_stays_here;
                refusals:
                    malformed_heads_are_400,
                    what_is_too_large_or_unknown_has_its_own_status,
                    a_refused_request_is_the_last_of_its_pipeline,
                    a_body_over_the_limit_is_413,
                    a_broken_chunk_is_400,
                    a_client_that_stalls_is_408,
                    an_idle_client_is_closed_in_silence,
                    a_backend_that_refuses_is_502_and_the_client_is_kept,
                    another_backend_is_tried_when_one_refuses_or_is_silent,
                    a_silent_backend_is_504,
                    a_backend_that_does_not_answer_is_504,
                    a_malformed_answer_is_502_and_the_last_of_its_connection,
                    a_storm_of_interim_answers_is_502;
                upstreams:
                    five_hundred_and_twelve_kept_clients_never_reconnect,
                    the_connection_that_was_put_back_last_is_taken_first,
                    backends_take_turns,
                    who_is_refused_takes_a_connection_that_idles_elsewhere,
                    who_is_refused_waits_for_those_who_are_busy,
                    requests_beyond_the_limit_of_connections_wait_and_are_all_answered,
                    a_request_that_waits_too_long_for_a_connection_is_503,
                    a_full_backlog_is_dialled_again_once_it_has_room,
                    a_stalled_request_does_not_wait_for_exchanges_that_last,
                    a_get_whose_kept_connection_died_is_sent_again_once,
                    what_may_have_happened_already_is_not_sent_again,
                    a_connection_with_bytes_that_nobody_asked_for_is_not_used_again,
                    a_backend_of_http10_is_sent_no_chunks,
                    a_connection_that_the_backend_ends_is_not_used_again,
                    idle_connections_are_kept_up_to_a_number_and_a_time,
                    a_backend_killed_and_restarted_costs_only_what_was_in_flight;
                ends:
                    an_answer_cut_at_any_byte_never_looks_whole,
                    a_reset_is_no_end_of_an_answer_that_lasts_until_the_end,
                    a_backend_that_stalls_in_a_body_cuts_the_answer,
                    a_client_that_leaves_while_it_waits_ends_the_backends_work,
                    a_client_that_leaves_behind_an_unread_request_ends_the_backends_work,
                    a_client_that_leaves_in_its_body_ends_the_backends_work,
                    a_client_that_leaves_in_a_download_ends_the_backends_work,
                    a_client_that_has_said_all_still_gets_its_answer,
                    a_request_that_ends_at_any_byte_never_looks_whole,
                    what_follows_the_last_request_does_not_take_its_answer_away,
                    a_slow_client_holds_its_backend_back,
                    a_slow_backend_holds_its_client_back,
                    a_client_that_takes_nothing_is_cut_in_time;
                process:
                    a_port_in_use_is_one_line_and_exit_one,
                    misuse_is_exit_two_and_an_unknown_name_exit_one,
                    sigterm_finishes_what_is_in_flight_and_closes_what_idles,
                    the_table_of_descriptors_does_not_grow_while_clients_come,
                    the_totals_are_one_write,
                    a_program_goes_on_when_the_reader_of_its_log_has_left,
                    a_drain_that_takes_too_long_cuts_what_is_left,
                    a_second_sigterm_ends_at_once,
                    sigint_drains_and_sigusr1_and_sighup_do_not;
                reload:
                    a_route_that_changes_leads_the_next_request_of_an_open_connection,
                    an_upstream_that_goes_finishes_what_is_in_flight,
                    an_endpoint_that_goes_is_asked_nothing_and_the_others_keep_their_connections,
                    a_setting_that_changes_keeps_idle_connections,
                    a_client_that_idles_leaves_by_the_newest_times,
                    listeners_come_and_go,
                    a_listener_that_cannot_be_bound_changes_nothing,
                    a_tunnel_of_a_route_that_stays_lives_through_twenty_reloads,
                    a_bad_file_changes_nothing_and_says_why,
                    a_storm_of_reloads_fails_no_request,
                    a_file_that_is_watched_is_followed_when_it_is_renamed_over,
                    operators_reload_by_a_request,
                    a_plan_is_told_before_it_is_followed;
                service:
                    sockets_of_a_manager_of_services_are_served,
                    a_socket_that_no_listener_names_is_told,
                    the_manager_of_services_is_told_of_every_change,
                    the_manager_of_services_hears_nothing_after_the_end_was_told,
                    readiness_fails_before_the_drain_begins,
                    operators_can_ask_until_a_drain_has_ended,
                    operators_upgrade_by_a_request;
                upgrade:
                    fifty_clients_lose_nothing_in_five_upgrades,
                    clients_keep_their_connections_until_their_part_of_the_spread,
                    more_workers_or_fewer_lose_no_connection,
                    a_tunnel_stays_with_the_old_process_until_it_ends,
                    a_successor_that_does_not_start_changes_nothing,
                    a_successor_that_hangs_is_ended_in_time,
                    a_second_upgrade_is_refused_while_one_is_under_way,
                    a_reload_is_refused_while_an_upgrade_is_under_way,
                    a_descriptor_that_is_no_conversation_is_refused_at_once,
                    a_signal_to_end_ends_the_successor_as_well,
                    a_process_that_was_replaced_ends_at_once_only_at_a_second_signal,
                    a_unix_socket_keeps_its_name_until_the_last_process_ends,
                    a_listener_that_the_new_file_does_not_have_is_closed,
                    the_file_of_the_process_names_who_is_in_charge;
                unix:
                    requests_go_from_one_unix_socket_to_another,
                    a_client_of_a_unix_socket_that_closes_behind_much_unread_ends_the_backends_work,
                    a_client_of_a_unix_socket_that_closes_while_it_waits_ends_the_backends_work,
                    a_client_of_a_unix_socket_that_has_said_all_is_answered,
                    a_backend_whose_name_is_gone_or_dead_is_502,
                    who_closes_a_unix_socket_right_behind_its_bytes_is_not_waited_for;
            }
        }
    };
}

stamp!(epoll, Engine::Epoll);
stamp!(threads, Engine::Threads);
stamp!(uring, Engine::Uring);

/// Where workers serve connections themselves.
mod among_workers {
    /// Proves these facts on one engine.
    macro_rules! stamp {
        ($name:ident, $engine:expr) => {
            mod $name {
                use crate::Engine;

                facts! { $engine;
                    borrowing:
                        a_request_is_served_by_what_another_worker_does_not_need,
                        a_backend_has_fewer_connections_where_workers_borrow;
                    process:
                        connections_are_shared_evenly_by_two_workers;
                    multiplex:
                        requests_of_many_clients_come_over_one_connection;
                }
            }
        };
    }

    stamp!(epoll, Engine::Epoll);
    stamp!(uring, Engine::Uring);
}

/// Where each connection has a thread of its own.
mod among_threads {
    use super::Engine;

    #[test]
    fn threads_have_nobody_to_share_with() {
        crate::multiplex::threads_have_nobody_to_share_with();
    }

    facts! { Engine::Threads;
        threads_only:
            a_thread_serves_one_connection_after_another,
            an_idle_client_makes_room_for_one_that_waits,
            a_busy_client_makes_room_with_its_answer,
            a_backend_connection_serves_the_clients_of_all_listeners,
            what_waits_for_a_thread_when_a_drain_begins_is_answered,
            what_waits_for_a_thread_when_a_drain_ends_is_cut_with_the_rest;
    }
}
