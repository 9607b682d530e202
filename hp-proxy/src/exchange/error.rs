//! What can go wrong between a request and its answer, and the one place that turns it into a status.

use super::answer::Answer;
use crate::upstream::AcquireError;
use hp_core::wire::http1::error::{ChunkError, ResponseError};
use std::io;

/// Why an exchange has no answer from a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection to a backend was to be had.
    Acquire(AcquireError),
    /// The backend's connection died before the first byte of an answer.
    ClosedBeforeResponse,
    /// It died within the answer's head.
    ClosedWithinHead,
    /// Something came before the request's head had left, which is no answer to it.
    Unasked {
        /// Nothing of the request had left, and nothing of it will.
        is_unsent: bool,
    },
    /// No answer's head in time.
    ResponseTimeout,
    /// The answer's head is not acceptable.
    Response(ResponseError),
    /// More interim answers than anybody needs.
    InterimStorm,
    /// The client's body is in chunks, which a backend of HTTP/1.0 does not know. RFC 9112 §6.1.
    LengthRequired,
    /// The client's body is larger than the plan allows.
    BodyTooLarge,
    /// The client's body is broken.
    BodyInvalid(ChunkError),
    /// The client's body stopped coming.
    BodyTimeout,
    /// The client left: there is nobody to answer.
    ClientGone,
}

impl Failure {
    /// The answer that the client gets; `None` when it has left.
    pub(super) fn answer(self) -> Option<Answer> {
        let (status, error, details) = match self {
            Self::Acquire(error) => told(error),
            Self::ClosedBeforeResponse => (
                502,
                "connection_terminated",
                "the backend closed before it answered",
            ),
            Self::ClosedWithinHead => (
                502,
                "http_response_incomplete",
                "the backend closed within the answer's head",
            ),
            Self::Unasked { .. } => (
                502,
                "http_protocol_error",
                "the backend spoke before it had the request's head",
            ),
            Self::ResponseTimeout => (
                504,
                "http_response_timeout",
                "the backend did not answer in time",
            ),
            Self::Response(error) => (error.status(), error.proxy_error(), error.reason()),
            Self::InterimStorm => (
                502,
                "http_protocol_error",
                "the backend sent too many interim answers",
            ),
            Self::LengthRequired => (
                411,
                "http_request_denied",
                "the backend speaks HTTP/1.0 and needs a length",
            ),
            Self::BodyTooLarge => (
                413,
                "http_request_denied",
                "the request's content is too large",
            ),
            Self::BodyInvalid(error) => (error.status(), "http_request_error", error.reason()),
            Self::BodyTimeout => (
                408,
                "http_request_error",
                "the request's content stopped coming",
            ),
            Self::ClientGone => return None,
        };
        Some(Answer {
            status,
            error,
            details,
            fields: "",
        })
    }

    /// Whether the request can be sent again without being executed twice, if it is idempotent and nothing of its body was
    /// taken: only while the backend has not begun to answer. RFC 9112 §9.3.1.
    pub(super) fn allows_retry(self) -> bool {
        self == Self::ClosedBeforeResponse || self.has_sent_nothing()
    }

    /// Whether the backend cannot have executed the request, whatever its method.
    pub(super) fn has_sent_nothing(self) -> bool {
        self == Self::Unasked { is_unsent: true }
    }

    /// What receiving an answer's head failed with.
    pub(super) fn of_head(error: &io::Error, is_begun: bool) -> Self {
        match (error.kind(), is_begun) {
            (io::ErrorKind::TimedOut, _) => Self::ResponseTimeout,
            (_, false) => Self::ClosedBeforeResponse,
            (_, true) => Self::ClosedWithinHead,
        }
    }
}

/// Status, type of error and details where there was no connection to be had.
fn told(error: AcquireError) -> (u16, &'static str, &'static str) {
    match error {
        AcquireError::QueueTimeout => (
            503,
            "connection_limit_reached",
            "no backend connection became free in time",
        ),
        AcquireError::QueueFull => (
            503,
            "connection_limit_reached",
            "too many requests wait for a backend",
        ),
        AcquireError::NoEndpoint => (
            503,
            "destination_unavailable",
            "no backend is in service, or none has an address",
        ),
        AcquireError::Refused => (502, "connection_refused", "no backend accepts connections"),
        AcquireError::ConnectTimeout => (
            504,
            "connection_timeout",
            "no backend accepted the connection in time",
        ),
        AcquireError::SpokeFirst => (
            502,
            "http_protocol_error",
            "the backend spoke before it was asked",
        ),
        AcquireError::OutOfResources => (
            503,
            "proxy_internal_error",
            "the proxy is out of descriptors, ports or memory",
        ),
    }
}
