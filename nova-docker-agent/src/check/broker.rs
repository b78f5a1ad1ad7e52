//! The message broker: reach, login, virtual host. Behind it, the conductor and this host's records.

use std::sync::Arc;

use super::conductor;
use super::finding::{Finding, Verdict};
use crate::config::Config;
use crate::messaging::{HostAddress, Transport};

const CHECK: &str = "broker";

pub(super) async fn look(config: Arc<Config>) -> Vec<Finding> {
    let messaging = &config.messaging;
    let virtual_host = &messaging.url.virtual_host;
    let mut findings = match Transport::try_each(messaging).await {
        Ok(tried) => tried.iter().map(|(host, tried)| judge(host, virtual_host, tried.as_ref().err())).collect(),
        Err(error) => {
            vec![Finding::failed(CHECK, error.to_string(), "correct the ssl_* files of [oslo_messaging_rabbit]")]
        }
    };
    if findings.iter().any(|finding| finding.verdict == Verdict::Ok) {
        findings.extend(conductor::look(&config).await);
    } else {
        let left_out = |check| Finding::left_out(check, "the message broker must be reached first");
        findings.extend(["conductor", "service"].map(left_out));
    }
    findings
}

fn judge(host: &HostAddress, virtual_host: &str, refusal: Option<&String>) -> Finding {
    let place = format!("{host}, virtual host {virtual_host:?}");
    let Some(reason) = refusal else { return Finding::ok(CHECK, format!("{place}: logged in")) };
    let advice = match reason.as_str() {
        reason if reason.contains("ACCESS_REFUSED") && reason.contains("vhost") => {
            "give the user rights there: `rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*'`"
        }
        reason if reason.contains("ACCESS_REFUSED") => {
            "correct user and password in [DEFAULT] transport_url, which must be those of nova-conductor's side; \
             `rabbitmqctl authenticate_user USER PASSWORD` tells whether the broker takes them"
        }
        reason if reason.contains("vhost") || reason.contains("NOT_ALLOWED") => {
            "correct what follows the last slash of [DEFAULT] transport_url; `rabbitmqctl list_vhosts` shows what there is"
        }
        reason if reason.contains("ertificate") || reason.contains("tls") || reason.contains("TLS") => {
            "see [oslo_messaging_rabbit] ssl and ssl_ca_file, and whether the broker's port speaks TLS"
        }
        _ => {
            "see whether RabbitMQ runs there, and whether host and port in [DEFAULT] transport_url are right and reachable"
        }
    };
    Finding::failed(CHECK, format!("{place}: {reason}"), advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messaging::TransportUrl;

    fn verdict(refusal: Option<&str>) -> Finding {
        let url = TransportUrl::parse("rabbit://openstack:s3cret@controller:5672/nova").unwrap();
        judge(&url.hosts[0], &url.virtual_host, refusal.map(str::to_owned).as_ref())
    }

    #[test]
    fn each_refusal_of_the_broker_leads_to_what_is_wrong() {
        assert_eq!(
            verdict(None),
            Finding::ok(CHECK, "openstack:***@controller:5672, virtual host \"nova\": logged in")
        );
        for (refusal, word) in [
            ("ACCESS_REFUSED - Login was refused using authentication mechanism AMQPLAIN.", "password"),
            ("NOT_ALLOWED - vhost nova not found", "list_vhosts"),
            ("ACCESS_REFUSED - access to vhost 'nova' refused for user 'openstack'", "set_permissions"),
            ("invalid peer certificate: UnknownIssuer", "ssl_ca_file"),
            ("Connection refused (os error 111)", "RabbitMQ runs"),
        ] {
            let finding = verdict(Some(refusal));
            assert_eq!(finding.verdict, Verdict::Failed);
            assert!(finding.found.ends_with(refusal), "{finding:?}");
            assert!(finding.advice.as_ref().unwrap().contains(word), "{finding:?}");
            assert!(!format!("{finding:?}").contains("s3cret"), "{finding:?}");
        }
    }
}
