//! The kernel, and the user that asks.

use std::fs;
use std::path::Path;

use nix::unistd::geteuid;

use super::finding::Finding;

const CHECK: &str = "kernel";
const USER: &str = "user";

/// What the kernel says.
#[derive(Clone, Debug, Default)]
struct Kernel {
    release: String,
    has_network_namespaces: bool,
    ip_forward: Option<bool>,
    /// None: `br_netfilter` is not in the kernel.
    bridge_iptables: Option<bool>,
}

pub(super) fn look() -> Vec<Finding> {
    let flag = |path: &str| Some(fs::read_to_string(path).ok()?.trim() == "1");
    let kernel = Kernel {
        release: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        has_network_namespaces: Path::new("/proc/self/ns/net").exists(),
        ip_forward: flag("/proc/sys/net/ipv4/ip_forward"),
        bridge_iptables: flag("/proc/sys/net/bridge/bridge-nf-call-iptables"),
    };
    vec![judge(&kernel), judge_user(geteuid().is_root())]
}

/// Neither forwarding nor `br_netfilter` matters to containers, whose packets only Open vSwitch sees; both do to what else
/// may be on the host (Docker's own bridge, a hypervisor's bridges, routers).
fn judge(kernel: &Kernel) -> Finding {
    let release = &kernel.release;
    if !kernel.has_network_namespaces {
        return Finding::failed(
            CHECK,
            format!("{release} has no network namespaces"),
            "boot a kernel with CONFIG_NET_NS",
        );
    }
    let word = |on: Option<bool>| match on {
        Some(true) => "on",
        Some(false) => "off",
        None => "unknown",
    };
    let bridges = match kernel.bridge_iptables {
        None => "br_netfilter is not loaded".to_owned(),
        on => format!("br_netfilter is loaded, bridge-nf-call-iptables {}", word(on)),
    };
    Finding::ok(CHECK, format!("{release}; ip_forward {}, {bridges} (servers need neither)", word(kernel.ip_forward)))
}

fn judge_user(is_root: bool) -> Finding {
    if is_root {
        return Finding::ok(USER, "root");
    }
    Finding::failed(
        USER,
        "not root: the agent cannot make networks, and this check does not see the processes of others",
        "run the agent, and this check, as root",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_kernel_is_described_and_must_have_namespaces() {
        let kernel = Kernel {
            release: "6.1.0".to_owned(),
            has_network_namespaces: true,
            ip_forward: Some(false),
            bridge_iptables: Some(true),
        };
        let finding = judge(&kernel);
        assert_eq!(finding.verdict, Verdict::Ok);
        let words = "6.1.0; ip_forward off, br_netfilter is loaded, bridge-nf-call-iptables on (servers need neither)";
        assert_eq!(finding.found, words);
        assert!(judge(&Kernel { bridge_iptables: None, ..kernel.clone() }).found.contains("not loaded"));
        assert_eq!(judge(&Kernel { has_network_namespaces: false, ..kernel }).verdict, Verdict::Failed);
    }

    #[test]
    fn only_root_is_fit() {
        assert_eq!(judge_user(true).verdict, Verdict::Ok);
        assert_eq!(judge_user(false).verdict, Verdict::Failed);
    }
}
