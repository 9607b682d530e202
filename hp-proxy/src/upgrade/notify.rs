//! What a manager of services is told of this process (sd_notify(3)): datagrams to the Unix socket that `NOTIFY_SOCKET` names.

use hp_core::obs::notice::say;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Who is told, if anybody.
#[derive(Debug)]
pub(crate) struct Notify {
    /// Nobody, too, once the end was told.
    to: Option<SocketAddr>,
}

impl Notify {
    /// Whom the environment names.
    ///
    /// # Errors
    /// A line that says what is wrong with the name.
    pub(crate) fn from_environment() -> Result<Self, String> {
        let name = env::var_os(ENVIRONMENT).filter(|name| !name.is_empty());
        let to = name.map(|name| {
            address(&name).map_err(|error| {
                format!(
                    "{ENVIRONMENT}={} is no path nor @name of a Unix socket ({error}); a manager of services sets it, unset it",
                    name.display()
                )
            })
        });
        Ok(Self {
            to: to.transpose()?,
        })
    }

    /// It serves.
    pub(crate) fn ready(&self) {
        self.tell("READY=1\n");
    }

    /// It starts another process to replace it, or reads its configuration again, since `now` of the monotonic clock.
    pub(crate) fn reloading(&self, now_ns: u64) {
        self.tell(&format!(
            "RELOADING=1\nMONOTONIC_USEC={}\n",
            now_ns / NANOS_PER_MICRO
        ));
    }

    /// Another process serves in its stead. Only the process in charge is believed, so it is the old one that says it.
    pub(crate) fn replaced(&self, process: u32) {
        self.tell(&format!("MAINPID={process}\nREADY=1\n"));
    }

    /// It ends. That is the last thing that is told: a reload that ends later would say that the service is ready again.
    pub(crate) fn stopping(&mut self) {
        self.tell("STOPPING=1\n");
        self.to = None;
    }

    fn tell(&self, what: &str) {
        let Some(to) = &self.to else { return };
        if let Err(error) = send(to, what) {
            say(format_args!(
                "hp-proxy: cannot tell {ENVIRONMENT}: {error}; going on"
            ));
        }
    }
}

fn send(to: &SocketAddr, what: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?; // A manager that does not listen shall not stop us.
    socket.send_to_addr(what.as_bytes(), to)?;
    Ok(())
}

fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::from(io::ErrorKind::InvalidInput)),
    }
}

const ENVIRONMENT: &str = "NOTIFY_SOCKET";
const NANOS_PER_MICRO: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_arrives_by_path_and_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("hp-proxy-notify-{}", std::process::id());
        let by_name =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes()).unwrap())
                .unwrap();
        let rows = [
            (by_path, path.into_os_string()),
            (by_name, format!("@{name}").into()),
        ];
        for (socket, name) in rows {
            let notify = Notify {
                to: Some(address(&name).unwrap()),
            };
            notify.reloading(5_000_999);
            notify.replaced(17);
            let hear = || {
                let mut space = [0; 100];
                let len = socket.recv(&mut space).unwrap();
                String::from_utf8(space[..len].to_vec()).unwrap()
            };
            assert_eq!(hear(), "RELOADING=1\nMONOTONIC_USEC=5000\n");
            assert_eq!(hear(), "MAINPID=17\nREADY=1\n");
        }
    }

    #[test]
    fn a_name_of_another_kind_is_refused_and_silence_is_no_failure() {
        for name in ["notify", "vsock:2:1", "/nul\0"] {
            address(OsStr::new(name)).unwrap_err();
        }
        let nobody = Notify {
            to: Some(address(OsStr::new("/nowhere/at/all")).unwrap()),
        };
        nobody.ready(); // One line, and no more.
        Notify { to: None }.stopping();
    }
}
