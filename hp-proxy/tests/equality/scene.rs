//! A scene as data: what the client and the backend do, one after the other.

/// One exchange, or several that follow each other.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    /// The fact that it shows.
    pub(crate) name: &'static str,
    pub(crate) backend: Backend,
    pub(crate) chunks: Chunks,
    pub(crate) cuts: Cuts,
    pub(crate) steps: Vec<Step>,
}

/// Whether anybody listens where the proxy dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Listens,
    Refuses,
}

/// How a chunked message is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunks {
    /// As it is: every message of the scene arrives in one read.
    Verbatim,
    /// By its content and trailers: the proxy passes on what it has, so chunks end where its reads ended.
    Joined,
}

/// Whether it shows where the proxy's reads end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cuts {
    Hidden,
    /// The proxy has judged and closed before it has read all: the kernel answers the rest with a reset.
    Shown,
}

/// Who does something.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Client(Act),
    Backend(Act),
}

/// What is done, over the newest connection of whoever does it.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// The client connects; the backend accepts.
    Opens,
    Sends(Vec<u8>),
    /// Up to a text that must come, after the last one.
    ReadsUntil(&'static str),
    ReadsEnd,
    /// Sends FIN; reading goes on.
    Finishes,
    /// Sends RST.
    Resets,
}

impl Scene {
    /// A client has connected to the proxy.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            backend: Backend::Listens,
            chunks: Chunks::Verbatim,
            cuts: Cuts::Hidden,
            steps: vec![Step::Client(Act::Opens)],
        }
    }

    pub(crate) fn without_backend(self) -> Self {
        Self {
            backend: Backend::Refuses,
            ..self
        }
    }

    pub(crate) fn with_chunks_joined(self) -> Self {
        Self {
            chunks: Chunks::Joined,
            ..self
        }
    }

    pub(crate) fn with_cuts_shown(self) -> Self {
        Self {
            cuts: Cuts::Shown,
            ..self
        }
    }

    /// Another client connects.
    pub(crate) fn client_opens(self) -> Self {
        self.client(Act::Opens)
    }

    pub(crate) fn asks(self, bytes: impl AsRef<[u8]>) -> Self {
        self.client(Act::Sends(bytes.as_ref().to_vec()))
    }

    /// The client asks, and the backend hears it over the connection that it has.
    pub(crate) fn asks_on(self, bytes: impl AsRef<[u8]>, until: &'static str) -> Self {
        self.asks(bytes).hears(until)
    }

    pub(crate) fn gets(self, until: &'static str) -> Self {
        self.client(Act::ReadsUntil(until))
    }

    pub(crate) fn gets_end(self) -> Self {
        self.client(Act::ReadsEnd)
    }

    pub(crate) fn client_finishes(self) -> Self {
        self.client(Act::Finishes)
    }

    pub(crate) fn client_resets(self) -> Self {
        self.client(Act::Resets)
    }

    /// The backend accepts a connection.
    pub(crate) fn takes(self) -> Self {
        self.backend(Act::Opens)
    }

    /// The backend accepts a connection and hears a request there.
    pub(crate) fn takes_request(self, until: &'static str) -> Self {
        self.takes().hears(until)
    }

    pub(crate) fn hears(self, until: &'static str) -> Self {
        self.backend(Act::ReadsUntil(until))
    }

    pub(crate) fn hears_end(self) -> Self {
        self.backend(Act::ReadsEnd)
    }

    pub(crate) fn says(self, bytes: impl AsRef<[u8]>) -> Self {
        self.backend(Act::Sends(bytes.as_ref().to_vec()))
    }

    /// The backend says something, and the client gets it.
    pub(crate) fn answers(self, bytes: impl AsRef<[u8]>, until: &'static str) -> Self {
        self.says(bytes).gets(until)
    }

    pub(crate) fn backend_finishes(self) -> Self {
        self.backend(Act::Finishes)
    }

    pub(crate) fn backend_resets(self) -> Self {
        self.backend(Act::Resets)
    }

    fn client(mut self, act: Act) -> Self {
        self.steps.push(Step::Client(act));
        self
    }

    fn backend(mut self, act: Act) -> Self {
        self.steps.push(Step::Backend(act));
        self
    }
}
