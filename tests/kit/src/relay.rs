//! A way to a server that a test can spoil: connections that fall silent, a server that moves.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::JoinHandle;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

/// Passes on what it gets, on a loopback port of its own; it ends with this value.
pub struct Relay {
    address: SocketAddr,
    target: Arc<AtomicU16>,
    /// How often connections were made silent.
    silenced: Arc<watch::Sender<u64>>,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// A way to this loopback port.
    pub async fn to(port: u16) -> Self {
        let target = Arc::new(AtomicU16::new(port));
        let silenced = Arc::new(watch::Sender::new(0));
        let (stop, stopped) = oneshot::channel();
        let (bound, address) = oneshot::channel();
        let passing = pass_all(bound, target.clone(), silenced.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = passing => {}
                    _ = stopped => {}
                }
            });
        });
        let address = address.await.expect("the relay listens");
        Self { address, target, silenced, stop: Some(stop), thread: Some(thread) }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on nothing comes through the connections there are, and nobody closes them. New ones work.
    pub fn silence(&self) {
        self.silenced.send_modify(|times| *times += 1);
    }

    /// New connections lead to this loopback port; those there are stay.
    pub fn lead_to(&self, port: u16) {
        self.target.store(port, Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

async fn pass_all(bound: oneshot::Sender<SocketAddr>, target: Arc<AtomicU16>, silenced: Arc<watch::Sender<u64>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port");
    bound.send(listener.local_addr().expect("a bound address")).ok();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let (port, mut silence) = (target.load(Ordering::SeqCst), silenced.subscribe());
        silence.mark_unchanged();
        tokio::spawn(async move {
            // Nobody there: the client sees its connection close.
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
            client.set_nodelay(true).ok();
            server.set_nodelay(true).ok();
            let (mut client, mut server) = (client, server);
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                _ = silence.changed() => std::future::pending().await,
            }
        });
    }
}
