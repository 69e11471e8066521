//! The way to a server: straight to an address that was judged, or through the egress proxy to such an address.
//!
//! The proxy is asked for the address and not for the name (`CONNECT 192.0.2.1:443`, RFC 9110, 9.3.6): what a name stands
//! for there might be judged otherwise here.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::Uri;
use hyper::header::HeaderValue;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;
use url::Url;

use super::target::Resolver;
use crate::call::CONNECT_LIMIT;

type BoxError = Box<dyn Error + Send + Sync>;

/// How TCP connections to servers come about.
#[derive(Clone)]
pub(crate) enum Way {
    Direct(HttpConnector<Resolver>),
    Proxied { tunnel: Tunnel<HttpConnector>, resolver: Resolver },
}

impl Way {
    /// The way through `proxy`, or straight.
    ///
    /// # Errors
    /// When the proxy's URL cannot be used.
    pub(crate) fn new(resolver: Resolver, proxy: Option<&Url>) -> Result<Self, String> {
        let Some(proxy) = proxy else {
            let mut connector = HttpConnector::new_with_resolver(resolver);
            connector.enforce_http(false);
            connector.set_nodelay(true);
            connector.set_connect_timeout(Some(CONNECT_LIMIT));
            return Ok(Self::Direct(connector));
        };
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_LIMIT));
        let unusable = || "the egress proxy's URL is not http://[user:password@]host:port".to_owned();
        let host = proxy.host_str().filter(|_| proxy.scheme() == "http").ok_or_else(unusable)?;
        let at = format!("http://{host}:{}", proxy.port().unwrap_or(80));
        let mut tunnel = Tunnel::new(at.parse().map_err(|_| unusable())?, connector);
        if !proxy.username().is_empty() || proxy.password().is_some() {
            let decoded = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
            let pair = [&decoded(proxy.username())[..], b":", &decoded(proxy.password().unwrap_or_default())].concat();
            let value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair)));
            tunnel = tunnel.with_auth(value.map_err(|_| unusable())?);
        }
        Ok(Self::Proxied { tunnel, resolver })
    }
}

impl Service<Uri> for Way {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Direct(connector) => connector.poll_ready(context).map_err(Into::into),
            Self::Proxied { tunnel, .. } => tunnel.poll_ready(context).map_err(Into::into),
        }
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        match self {
            Self::Direct(connector) => {
                let connecting = connector.call(uri);
                Box::pin(async move { Ok(connecting.await?) })
            }
            Self::Proxied { tunnel, resolver } => {
                let (mut tunnel, mut resolver) = (tunnel.clone(), resolver.clone());
                Box::pin(async move {
                    let address = judged(&uri, &mut resolver).await?;
                    let scheme = uri.scheme_str().unwrap_or("http");
                    Ok(tunnel.call(format!("{scheme}://{address}").parse()?).await?)
                })
            }
        }
    }
}

/// An address of the server that may be called.
async fn judged(uri: &Uri, resolver: &mut Resolver) -> Result<SocketAddr, BoxError> {
    let host = uri.host().ok_or("the URL has no host")?;
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    // Addresses were judged before; only names come here unknown.
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    let found = resolver.call(host.parse()?).await?.next();
    let found = found.ok_or("the name stands for no address")?;
    Ok(SocketAddr::new(found.ip(), port))
}
