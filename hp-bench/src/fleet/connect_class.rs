//! Whose fault it is when there is no connection.

use std::io;

use crate::record::ErrorClass;

/// Names a failure to connect.
pub(super) fn connect_class(error: &io::Error) -> ErrorClass {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorClass::ConnectRefused,
        io::ErrorKind::TimedOut => ErrorClass::ConnectTimeout,
        io::ErrorKind::AddrNotAvailable => ErrorClass::LocalPorts,
        _ => match error.raw_os_error() {
            Some(ENFILE | EMFILE) => ErrorClass::LocalFds,
            _ => ErrorClass::ConnectOther,
        },
    }
}

/// errno(3): the system's, and the process's, table of open files is full. They have no `ErrorKind`.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_errors_have_classes_by_whose_fault_they_are() {
        let check = |errno, want| {
            assert_eq!(connect_class(&io::Error::from_raw_os_error(errno)), want);
        };
        check(111, ErrorClass::ConnectRefused);
        check(110, ErrorClass::ConnectTimeout);
        check(99, ErrorClass::LocalPorts);
        check(EMFILE, ErrorClass::LocalFds);
        check(113, ErrorClass::ConnectOther);
    }
}
