//! The rooms that hp-proxy, hp-echo and hp-bench share.
//!
//! Start reading at [`rt`] (the runtime) and [`wire`] (HTTP/1.1 as pure functions); [`http`] is the only room that
//! names both. Nothing here knows a route, a backend or a flag.

pub mod base;
pub mod http;
pub mod obs;
pub mod rt;
pub mod sys;
pub mod wire;
