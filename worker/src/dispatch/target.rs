//! Which addresses a task may call. Judged where a connection is made: on the address in the URL or
//! on what its name resolves to at that moment, so a name that changes its answer after registration
//! gains nothing.
//!
//! Invariant: no setting opens the addresses that are never a target: link-local ones (the clouds'
//! metadata services among them), unspecified, multicast and broadcast ones, in any IPv6 disguise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::{fmt, io, vec};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::net::lookup_host;
use tower::Service;
use url::{Host, Url};

/// Which addresses are refused beyond those that are never a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetPolicy {
    /// Ranges that are refused.
    pub deny: Vec<Cidr>,
    /// Exceptions from `deny`.
    pub allow: Vec<Cidr>,
}

impl TargetPolicy {
    /// Whether a task may call this address.
    pub fn permits(&self, address: IpAddr) -> bool {
        let forms = [Some(address), embedded_v4(address).map(IpAddr::V4)];
        let mut forms = forms.into_iter().flatten();
        forms.all(|form| !is_never_a_target(form) && !self.denies(form))
    }

    fn denies(&self, address: IpAddr) -> bool {
        let within = |ranges: &[Cidr]| ranges.iter().any(|range| range.contains(address));
        within(&self.deny) && !within(&self.allow)
    }
}

/// What reaches the machine itself by its loopback interface.
pub const LOOPBACK: [Cidr; 2] = [
    Cidr { network: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), prefix: 8 },
    Cidr { network: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 },
];

/// A range of addresses: `10.0.0.0/8`, `fd00::/8`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// Whether the address lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differing = u32::from(network) ^ u32::from(address);
                differing.leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differing = u128::from(network) ^ u128::from(address);
                differing.leading_zeros() >= u32::from(self.prefix)
            }
            _ => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refusal = || format!("`{text}` is not an address range like 10.0.0.0/8 or fd00::/8");
        let (network, prefix) = text.split_once('/').map_or((text, None), |(network, prefix)| (network, Some(prefix)));
        let network: IpAddr = network.parse().map_err(|_| refusal())?;
        let longest = if network.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), |prefix| prefix.parse::<u8>().map_err(|_| refusal()))?;
        if prefix > longest {
            return Err(refusal());
        }
        Ok(Self { network, prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// Why no connection was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the target's address may not be called")]
pub(crate) struct AddressRefused;

/// Judges a URL whose host is an address: those never reach the resolver. Names pass; [`Resolver`]
/// judges what they stand for.
pub(crate) fn judge_literal(policy: &TargetPolicy, url: &Url) -> Result<(), AddressRefused> {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        _ => return Ok(()),
    };
    if policy.permits(address) { Ok(()) } else { Err(AddressRefused) }
}

/// What a name stands for at this moment.
type Lookup = dyn Fn(Name) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> + Send + Sync;

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unresolved {
    #[error(transparent)]
    Refused(#[from] AddressRefused),
    #[error("the name could not be resolved")]
    Unknown(#[from] io::Error),
}

/// Resolves names and hands out permitted addresses only. The client connects to what it was handed and asks no second
/// time, so a name that rebinds between the judgement and the connection gains nothing.
#[derive(Clone)]
pub(crate) struct Resolver {
    policy: Arc<TargetPolicy>,
    lookup: Arc<Lookup>,
}

impl Resolver {
    /// One that resolves by the system's rules.
    pub(crate) fn new(policy: Arc<TargetPolicy>) -> Self {
        Self::asking(policy, |name| async move { Ok(lookup_host((name.as_str(), 0)).await?.collect()) })
    }

    /// One that resolves as `lookup` does.
    pub(crate) fn asking<F>(policy: Arc<TargetPolicy>, lookup: impl Fn(Name) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        Self { policy, lookup: Arc::new(move |name| Box::pin(lookup(name))) }
    }
}

/// The addresses of a host that may be connected to. Connect to these and no others: resolving the name again might
/// answer differently.
///
/// # Errors
/// `Ok` of the refusal, or the failure to resolve the name.
pub(crate) async fn permitted_addresses(
    policy: &TargetPolicy,
    host: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, Result<AddressRefused, io::Error>> {
    let found = lookup_host((host, port)).await.map_err(Err)?.collect();
    permitted(policy, found).map_err(Ok)
}

fn permitted(policy: &TargetPolicy, mut found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, AddressRefused> {
    let was_empty = found.is_empty();
    found.retain(|found| policy.permits(found.ip()));
    if found.is_empty() && !was_empty { Err(AddressRefused) } else { Ok(found) }
}

/// Judges a host that somebody else resolves again and connects to: one address that may not be called refuses it,
/// because it may be the one that is taken.
///
/// # Errors
/// `Ok` of the refusal, or the failure to resolve the name.
#[cfg(feature = "kafka")]
pub(crate) async fn judge_host(
    policy: &TargetPolicy,
    host: &str,
    port: u16,
) -> Result<(), Result<AddressRefused, std::io::Error>> {
    let mut found = tokio::net::lookup_host((host, port)).await.map_err(Err)?;
    if found.all(|found| policy.permits(found.ip())) { Ok(()) } else { Err(Ok(AddressRefused)) }
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = Unresolved;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Unresolved>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unresolved>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (policy, found) = (self.policy.clone(), (self.lookup)(name));
        Box::pin(async move { Ok(permitted(&policy, found.await?)?.into_iter()) })
    }
}

fn is_never_a_target(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            // 0.0.0.0/8 is "this host" (RFC 1122): Linux connects 0.0.0.0 to itself.
            v4 == ALIBABA_METADATA
                || v4.octets()[0] == 0
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local() || v6 == AWS_METADATA_V6
        }
    }
}

/// The address of Alibaba Cloud's instance metadata; it lies in the range of carriers, not the link-local one.
const ALIBABA_METADATA: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);

/// The IPv6 address of AWS' instance metadata; it lies in the private range, not the link-local one.
const AWS_METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254);

/// The IPv4 address that packets to this IPv6 address end at: mapped and compatible forms (RFC 4291),
/// NAT64 (RFC 6052, RFC 8215) and 6to4 (RFC 3056).
fn embedded_v4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let from = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => from(g, h),
        [0, 0, 0, 0, 0, 0] if !v6.is_unspecified() && !v6.is_loopback() => from(g, h),
        [0x64, 0xff9b, 1, _, _, _] => from(g, h),
        [0x2002, high, low, ..] => from(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: &TargetPolicy, address: &str, permitted: bool) {
        let parsed: IpAddr = address.parse().unwrap();
        assert_eq!(policy.permits(parsed), permitted, "{address}");
    }

    #[test]
    fn what_is_never_a_target_is_refused_in_every_form() {
        let open =
            TargetPolicy { deny: Vec::new(), allow: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()] };
        for refused in [
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "::ffff:100.100.100.200",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "239.255.255.255",
            "255.255.255.255",
            "::",
            "fe80::1",
            "febf::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "::ffff:0.0.0.0",
            "::ffff:224.0.0.1",
        ] {
            check(&open, refused, false);
        }
    }

    #[test]
    fn everything_else_is_open_until_it_is_denied() {
        let open = TargetPolicy::default();
        for permitted in ["127.0.0.1", "::1", "10.1.2.3", "93.184.216.34", "2606:2800::1", "fd00::1", "fec0::1"] {
            check(&open, permitted, true);
        }
    }

    #[test]
    fn deny_closes_ranges_and_allow_opens_holes_in_them() {
        let policy = TargetPolicy {
            deny: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap(), "192.168.1.7".parse().unwrap()],
            allow: vec!["10.1.0.0/16".parse().unwrap()],
        };
        check(&policy, "10.2.0.1", false);
        check(&policy, "::ffff:10.2.0.1", false);
        check(&policy, "10.1.255.255", true);
        check(&policy, "11.0.0.1", true);
        check(&policy, "fd12::1", false);
        check(&policy, "192.168.1.7", false);
        check(&policy, "192.168.1.6", true);
    }

    #[test]
    fn a_url_cannot_spell_an_address_past_the_check() {
        let policy = TargetPolicy::default();
        for url in [
            "http://169.254.169.254/latest",
            "http://0xa9fea9fe/",
            "http://2852039166/",
            "http://0251.0376.0251.0376/",
            "http://[::ffff:a9fe:a9fe]/",
            "http://user@169.254.169.254:80/",
        ] {
            assert_eq!(judge_literal(&policy, &url.parse().unwrap()), Err(AddressRefused), "{url}");
        }
        assert_eq!(judge_literal(&policy, &"http://127.0.0.1:3000/".parse().unwrap()), Ok(()));
    }

    #[tokio::test]
    async fn a_name_for_refused_addresses_only_is_refused() {
        let deny = ["127.0.0.0/8", "::1"].map(|range| range.parse().unwrap()).to_vec();
        let policy = Arc::new(TargetPolicy { deny, allow: Vec::new() });
        let refusal = Resolver::new(policy).call("localhost".parse().unwrap()).await.err().unwrap();
        assert!(matches!(refusal, Unresolved::Refused(_)));
    }

    #[test]
    fn ranges_are_read_and_bad_ones_are_named() {
        for text in ["10.0.0.0/8", "fd00::/8", "0.0.0.0/0"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        for text in ["10.0.0.0/33", "::/129", "ten", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(text.parse::<Cidr>().unwrap_err().contains(text), "{text}");
        }
    }
}
