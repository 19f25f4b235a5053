//! Connections from others: in the clear or by TLS, for gRPC and for HTTP alike.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info;
use axum::serve::IncomingStream;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::{Answering, Transport};

/// How long a caller may take for its handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);

/// Handshakes under way; who comes then waits until one is done, which is soon. As many as a rack that is switched on at once.
const HANDSHAKES_AT_ONCE: usize = 4096;

/// A pause after the system refused a connection: it lacks files or memory.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Where the connection comes from.
    pub address: SocketAddr,
    /// What the caller's certificate says that it is: the URIs among its names. Empty without one.
    pub uris: Arc<[String]>,
}

/// A connection from others.
#[derive(Debug)]
pub struct Stream {
    peer: Peer,
    io: Io,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Takes connections. A caller whose handshake fails is logged and forgotten, and holds nobody up.
pub struct Listener {
    tcp: TcpListener,
    acceptor: Option<TlsAcceptor>,
    handshakes: FuturesUnordered<BoxFuture<'static, Option<Stream>>>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener").field("tcp", &self.tcp).finish_non_exhaustive()
    }
}

impl Transport {
    /// Takes connections of gRPC from `tcp` in this transport's way.
    #[must_use]
    pub fn grpc(&self, tcp: TcpListener) -> Listener {
        self.listener(tcp, |answering| &answering.grpc)
    }

    /// Takes connections of HTTP from `tcp` in this transport's way.
    #[must_use]
    pub fn http(&self, tcp: TcpListener) -> Listener {
        self.listener(tcp, |answering| &answering.http)
    }

    fn listener(
        &self,
        tcp: TcpListener,
        protocol: fn(&Answering) -> &Arc<ServerConfig>,
    ) -> Listener {
        let acceptor = self.0.as_ref().map(|secure| {
            let answering = secure.answering.as_ref();
            let answering = answering.expect("who listens by TLS was opened as a service");
            TlsAcceptor::from(Arc::clone(protocol(answering)))
        });
        Listener { tcp, acceptor, handshakes: FuturesUnordered::new() }
    }
}

impl Listener {
    /// The next connection that is ready for use. May be dropped and called again.
    pub async fn next(&mut self) -> Stream {
        loop {
            let has_room = self.handshakes.len() < HANDSHAKES_AT_ONCE;
            tokio::select! {
                accepted = self.tcp.accept(), if has_room => match accepted {
                    Ok((connection, address)) => {
                        // Only slower without.
                        connection.set_nodelay(true).ok();
                        match self.acceptor.clone() {
                            None => return Stream::plain(connection, address),
                            Some(acceptor) => {
                                self.handshakes.push(Box::pin(shake(acceptor, connection, address)));
                            }
                        }
                    }
                    Err(error) if is_of_the_caller(&error) => {}
                    Err(error) => {
                        tracing::warn!(%error, "a connection was not accepted");
                        tokio::time::sleep(REFUSED_PAUSE).await;
                    }
                },
                Some(done) = self.handshakes.next(), if !self.handshakes.is_empty() => {
                    if let Some(stream) = done {
                        return stream;
                    }
                }
            }
        }
    }

    /// The connections, for a gRPC server; they never end.
    pub fn incoming(self) -> impl futures::Stream<Item = io::Result<Stream>> + Send {
        futures::stream::unfold(self, |mut listener| async move {
            Some((Ok(listener.next().await), listener))
        })
    }
}

fn is_of_the_caller(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn shake(
    acceptor: TlsAcceptor,
    connection: TcpStream,
    address: SocketAddr,
) -> Option<Stream> {
    let refused = |error: &dyn std::fmt::Display| {
        tracing::info!(peer.address = %address, %error, "TLS handshake refused");
    };
    match tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(connection)).await {
        Ok(Ok(tls)) => {
            let certificate = tls.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let uris = certificate.map(uris).unwrap_or_default().into();
            Some(Stream { peer: Peer { address, uris }, io: Io::Tls(Box::new(tls)) })
        }
        Ok(Err(error)) => {
            refused(&error);
            None
        }
        Err(elapsed) => {
            refused(&elapsed);
            None
        }
    }
}

/// The URIs among the names of a certificate that was verified.
fn uris(certificate: &CertificateDer<'_>) -> Vec<String> {
    match webpki::EndEntityCert::try_from(certificate) {
        Ok(parsed) => parsed.valid_uri_names().map(str::to_owned).collect(),
        Err(_) => Vec::new(),
    }
}

impl Stream {
    fn plain(connection: TcpStream, address: SocketAddr) -> Self {
        Self { peer: Peer { address, uris: Arc::default() }, io: Io::Plain(connection) }
    }

    /// The connection below.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        match &self.io {
            Io::Plain(connection) => connection,
            Io::Tls(tls) => tls.get_ref().0,
        }
    }

    fn io(self: Pin<&mut Self>) -> Pin<&mut Io> {
        Pin::new(&mut self.get_mut().io)
    }
}

impl Connected for Stream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl axum::serve::Listener for Listener {
    type Io = Stream;
    type Addr = Peer;

    async fn accept(&mut self) -> (Stream, Peer) {
        let stream = self.next().await;
        let peer = stream.peer.clone();
        (stream, peer)
    }

    /// Ourselves, as a peer without a certificate.
    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { address: self.tcp.local_addr()?, uris: Arc::default() })
    }
}

impl connect_info::Connected<IncomingStream<'_, Listener>> for Peer {
    fn connect_info(incoming: IncomingStream<'_, Listener>) -> Self {
        incoming.io().peer.clone()
    }
}

macro_rules! either {
    ($self:ident, $io:ident => $call:expr) => {
        match $self.io().get_mut() {
            Io::Plain($io) => $call,
            Io::Tls($io) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self, io => Pin::new(io).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => Pin::new(io).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, io => Pin::new(io).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(io) => io.is_write_vectored(),
            Io::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, io => Pin::new(io).poll_shutdown(cx))
    }
}
