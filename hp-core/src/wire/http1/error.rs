//! Why bytes are not a message we take, and which status says so.
//!
//! Every error is `Copy` and carries no text of the peer. `reason()` is a short stable token for logs,
//! metrics and the `details` of Proxy-Status (RFC 9209 §2.1.6).

use std::error::Error;
use std::fmt;

use crate::wire::header::ConnectionError;

/// A syntax or size error that requests and responses share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// A line ends in LF without CR. RFC 9112 §2.2 lets us accept it; two hops that split lines
    /// differently is how requests are smuggled.
    BareLf,
    /// A CR without LF, or another byte where a line must end. RFC 9112 §2.2.
    LineEnd,
    /// A field name is empty, no token, or followed by whitespace; or a line is folded.
    /// RFC 9112 §5.1 and §5.2.
    FieldName,
    /// A control byte in a field value. RFC 9110 §5.5.
    FieldValue,
    /// More field lines than the limit.
    FieldsTooMany,
    /// More bytes than the limit without the head's end.
    HeadTooLarge,
    /// A member of Connection is no token. RFC 9110 §7.6.1.
    ConnectionOption,
    /// Connection has more members than we compare fields with.
    ConnectionOptionsTooMany,
}

impl HeadError {
    /// A stable token in snake case.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::BareLf => "bare_lf",
            Self::LineEnd => "bad_line_end",
            Self::FieldName => "bad_field_name",
            Self::FieldValue => "bad_field_value",
            Self::FieldsTooMany => "too_many_fields",
            Self::HeadTooLarge => "head_too_large",
            Self::ConnectionOption => "bad_connection_option",
            Self::ConnectionOptionsTooMany => "too_many_connection_options",
        }
    }
}

impl From<ConnectionError> for HeadError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::OptionInvalid => Self::ConnectionOption,
            ConnectionError::OptionsTooMany => Self::ConnectionOptionsTooMany,
        }
    }
}

/// Why it is not certain where a body ends. RFC 9112 §6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingError {
    /// Content-Length is not `1*DIGIT`, or larger than half of `u64`. RFC 9110 §8.6.
    ContentLengthInvalid,
    /// Content-Length came twice, even if equal. RFC 9110 §8.6 lets us merge equal ones.
    ContentLengthRepeated,
    /// Content-Length and Transfer-Encoding both came. RFC 9112 §6.3 lets us prefer the latter.
    BothLengths,
    /// Transfer-Encoding in an HTTP/1.0 message. RFC 9112 §6.1.
    TransferEncodingOnHttp10,
    /// `chunked` is not the last coding, comes twice, has parameters, or the list has an empty or
    /// malformed member. RFC 9112 §6.1, §6.3, §7.1.
    TransferEncodingInvalid,
    /// Another coding before `chunked`: we could not write the message back without loss.
    TransferEncodingUnsupported,
}

impl FramingError {
    /// A stable token in snake case.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::ContentLengthInvalid => "bad_content_length",
            Self::ContentLengthRepeated => "repeated_content_length",
            Self::BothLengths => "content_length_and_transfer_encoding",
            Self::TransferEncodingOnHttp10 => "transfer_encoding_on_http10",
            Self::TransferEncodingInvalid => "bad_transfer_encoding",
            Self::TransferEncodingUnsupported => "unsupported_transfer_coding",
        }
    }
}

/// Why a request head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// More than one empty line before the request line. RFC 9112 §2.2.
    LeadingEmptyLines,
    /// The method is no token. RFC 9110 §9.1.
    MethodInvalid,
    /// The method is longer than any we know. RFC 9112 §3.
    MethodTooLong,
    /// The target has none of the four forms, or a form that its method must not have. RFC 9112 §3.2.
    TargetInvalid,
    /// The request line is longer than the limit. RFC 9112 §3.
    UriTooLong,
    /// The version is not `HTTP/` DIGIT `.` DIGIT. RFC 9112 §2.3.
    VersionInvalid,
    /// A version other than 1.0 and 1.1. RFC 9110 §15.6.6.
    VersionUnsupported,
    /// The lines of the head are bad.
    Head(HeadError),
    /// HTTP/1.1 without Host. RFC 9112 §3.2.
    HostMissing,
    /// More than one Host. RFC 9112 §3.2.
    HostRepeated,
    /// Host is no `uri-host [ ":" port ]`, or empty. RFC 9110 §7.2, §4.2.1.
    HostInvalid,
    /// Host names another server than the target. RFC 9112 §3.2.2 lets us ignore Host.
    HostDisagrees,
    /// The body's end is not certain.
    Framing(FramingError),
    /// A body with CONNECT, TRACE or an Upgrade. RFC 9110 §9.3.6, §9.3.8, §7.8.
    BodyForbidden,
    /// An expectation other than `100-continue`. RFC 9110 §10.1.1.
    ExpectationUnknown,
    /// POST, PUT or PATCH of HTTP/1.0 without Content-Length: where its content ends cannot be known. RFC 9110 §15.5.12.
    LengthRequired,
    /// Max-Forwards of OPTIONS or TRACE is no number, or came twice. RFC 9110 §7.6.2.
    MaxForwardsInvalid,
}

impl RequestError {
    /// The status to answer with: 400, 411, 414, 417, 431, 501 or 505.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::LengthRequired => 411,
            Self::UriTooLong => 414,
            Self::ExpectationUnknown => 417,
            Self::Head(
                HeadError::FieldsTooMany
                | HeadError::HeadTooLarge
                | HeadError::ConnectionOptionsTooMany,
            ) => 431,
            Self::MethodTooLong | Self::Framing(FramingError::TransferEncodingUnsupported) => 501,
            Self::VersionUnsupported => 505,
            _ => 400,
        }
    }

    /// A stable token in snake case.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::LeadingEmptyLines => "leading_empty_lines",
            Self::MethodInvalid => "bad_method",
            Self::MethodTooLong => "method_too_long",
            Self::TargetInvalid => "bad_target",
            Self::UriTooLong => "uri_too_long",
            Self::VersionInvalid => "bad_version",
            Self::VersionUnsupported => "unsupported_version",
            Self::Head(error) => error.reason(),
            Self::HostMissing => "missing_host",
            Self::HostRepeated => "repeated_host",
            Self::HostInvalid => "bad_host",
            Self::HostDisagrees => "host_disagrees_with_target",
            Self::Framing(error) => error.reason(),
            Self::BodyForbidden => "body_forbidden",
            Self::ExpectationUnknown => "unknown_expectation",
            Self::LengthRequired => "length_required",
            Self::MaxForwardsInvalid => "bad_max_forwards",
        }
    }
}

/// Why a response head is refused; the client gets a 502 and the upstream connection dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseError {
    /// The bytes do not begin with a status line of HTTP/1.0 or 1.1. RFC 9112 §4.
    VersionInvalid,
    /// The status is not three digits from 100 to 599, or the reason has a control. RFC 9110 §15.
    StatusInvalid,
    /// The status line is longer than the limit.
    StatusLineTooLong,
    /// The lines of the head are bad.
    Head(HeadError),
    /// The body's end is not certain.
    Framing(FramingError),
    /// An interim answer that announces a body. RFC 9110 §15.2, RFC 9112 §6.1.
    InterimWithBody,
    /// 101 that nobody asked for, to another protocol, or without Upgrade and `Connection: upgrade`. RFC 9110 §7.8.
    UpgradeUnsolicited,
}

impl ResponseError {
    /// Always 502. RFC 9110 §15.6.3.
    #[must_use]
    pub fn status(self) -> u16 {
        502
    }

    /// A stable token in snake case.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::VersionInvalid => "bad_version",
            Self::StatusInvalid => "bad_status",
            Self::StatusLineTooLong => "status_line_too_long",
            Self::Head(error) => error.reason(),
            Self::Framing(error) => error.reason(),
            Self::InterimWithBody => "interim_with_body",
            Self::UpgradeUnsolicited => "unsolicited_upgrade",
        }
    }

    /// The error type to name in Proxy-Status. RFC 9209 §2.3.
    #[must_use]
    pub fn proxy_error(self) -> &'static str {
        match self {
            Self::Head(HeadError::HeadTooLarge | HeadError::FieldsTooMany) => {
                "http_response_header_section_size"
            }
            Self::Framing(FramingError::TransferEncodingUnsupported) => {
                "http_response_transfer_coding"
            }
            Self::UpgradeUnsolicited => "http_upgrade_failed",
            _ => "http_protocol_error",
        }
    }
}

/// Why a chunked body is refused. A connection that said this has no known next byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// No hexadecimal digit where a size begins, or a byte other than `;` and CR after it.
    SizeInvalid,
    /// More than 16 digits, or more than half of `u64`.
    SizeOverflow,
    /// An extension outside the grammar. RFC 9112 §7.1.1.
    ExtensionInvalid,
    /// Extensions longer than the limit of a chunk or of the message.
    ExtensionTooLong,
    /// Not CRLF where a line or a chunk must end.
    LineEnd,
    /// A trailer line that is no field line. RFC 9112 §7.1.2.
    TrailerInvalid,
    /// Trailers longer, or more of them, than the limit.
    TrailersTooLarge,
}

impl ChunkError {
    /// The status to answer with if the bad body is a request's: 400 or 431.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::TrailersTooLarge => 431,
            _ => 400,
        }
    }

    /// A stable token in snake case.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::SizeInvalid => "bad_chunk_size",
            Self::SizeOverflow => "chunk_size_overflow",
            Self::ExtensionInvalid => "bad_chunk_extension",
            Self::ExtensionTooLong => "chunk_extension_too_long",
            Self::LineEnd => "bad_chunk_line_end",
            Self::TrailerInvalid => "bad_trailer",
            Self::TrailersTooLarge => "trailers_too_large",
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_words(out, "head", self.reason())
    }
}

impl fmt::Display for FramingError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_words(out, "framing", self.reason())
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_words(out, "request", self.reason())
    }
}

impl fmt::Display for ResponseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_words(out, "response", self.reason())
    }
}

impl fmt::Display for ChunkError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_words(out, "chunked body", self.reason())
    }
}

impl Error for HeadError {}
impl Error for FramingError {}
impl Error for RequestError {}
impl Error for ResponseError {}
impl Error for ChunkError {}

/// Writes `subject: the reason in words`.
fn write_words(out: &mut fmt::Formatter<'_>, subject: &str, reason: &str) -> fmt::Result {
    out.write_str(subject)?;
    out.write_str(":")?;
    reason
        .split('_')
        .try_for_each(|word| write!(out, " {word}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_speak_lower_case_words() {
        let error = RequestError::Framing(FramingError::ContentLengthRepeated);
        assert_eq!(error.to_string(), "request: repeated content length");
        assert_eq!(
            ChunkError::SizeOverflow.to_string(),
            "chunked body: chunk size overflow"
        );
    }

    #[test]
    fn statuses_are_those_of_the_rfc() {
        assert_eq!(RequestError::HostMissing.status(), 400);
        assert_eq!(RequestError::LengthRequired.status(), 411);
        assert_eq!(RequestError::UriTooLong.status(), 414);
        assert_eq!(RequestError::ExpectationUnknown.status(), 417);
        assert_eq!(RequestError::Head(HeadError::FieldsTooMany).status(), 431);
        assert_eq!(RequestError::MethodTooLong.status(), 501);
        assert_eq!(RequestError::VersionUnsupported.status(), 505);
        assert_eq!(ResponseError::StatusInvalid.status(), 502);
    }
}
