//! A storage that stops answering at a chosen request until it is told to go on: the moment at
//! which a test looks at, signals or kills a running push.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use testkit::Server;
use testkit::server::{Config, Request};

use crate::desk::Desk;

/// Longer than any machine needs to get to a request; only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(180);

/// The gate; dropping it opens it.
#[derive(Debug)]
pub(crate) struct Gate {
    reached: Receiver<()>,
    _open: Sender<()>,
}

impl Gate {
    /// Stops the first request that fits.
    pub(crate) fn at(server: &Server, fits: impl Fn(&Request) -> bool + Send + 'static) -> Self {
        let (tell, reached) = channel();
        let (open, opened) = channel::<()>();
        let mut done = false;
        server.on(move |request| {
            if !done && fits(request) {
                done = true;
                // fails when the gate was dropped: then nobody waits
                let _ = tell.send(());
                let _ = opened.recv();
            }
            None
        });
        Self { reached, _open: open }
    }

    /// Waits until the request is there.
    pub(crate) fn wait(&self) {
        self.reached.recv_timeout(PATIENCE).expect("the request never came");
    }
}

/// A request that uploads a pack.
pub(crate) fn uploads_a_pack(request: &Request) -> bool {
    request.method == "PUT" && request.key.contains("packs/")
}

/// A bucket, and a desk whose settings point to it.
pub(crate) fn bucket() -> (Server, Desk) {
    let server = Server::start(Config::default()).unwrap();
    let mut desk = Desk::new();
    point_to(&mut desk, &server);
    (server, desk)
}

/// Makes the desk use the bucket.
pub(crate) fn point_to(desk: &mut Desk, server: &Server) {
    let config = server.config();
    desk.set("AGENT_BACKUP_REPO", &format!("s3:{}/{}/agents", server.url(), config.bucket));
    desk.set("AGENT_BACKUP_KEY_ID", &config.key_id);
    desk.set("AGENT_BACKUP_SECRET_KEY", &config.secret);
    desk.set("AGENT_BACKUP_REGION", &config.region);
}
