//! How a client brings passwords and names: by which protocols, in which forms.

use super::{Findings, Key};
use crate::settings::{Client, ClientProtocol, PasswordProtocol, Settings, TargetKind};

/// who checks the passwords decides by which protocols they may come.
pub(super) fn password_protocols(findings: &mut Findings, settings: &Settings, client: &Client, key: Key<'_>) {
    let listed = &client.password_protocols;
    if listed.is_empty() {
        return;
    }
    for (place, protocol) in listed.iter().enumerate() {
        if listed[..place].contains(protocol) {
            findings.error(key("password_protocols"), format!("{:?} stands twice", protocol.code()));
        }
    }
    let can = |protocol: &PasswordProtocol| match settings.target(client.target.as_str()).map(|target| target.kind) {
        Some(TargetKind::Radius) => true,
        Some(TargetKind::WindowsDomain) => matches!(protocol, PasswordProtocol::Pap | PasswordProtocol::MsChap2),
        None => *protocol == PasswordProtocol::Pap,
    };
    let checker = match settings.target(client.target.as_str()) {
        Some(target) if target.kind == TargetKind::WindowsDomain => {
            format!("Windows domain {} cannot check: it takes \"pap\" and \"ms_chap2\"", client.target)
        }
        _ => format!(
            "directory {} cannot check: a bind needs the password itself; write \"pap\", or let a RADIUS target or a Windows \
             domain check this client's passwords",
            client.target
        ),
    };
    let known =
        settings.directory(client.target.as_str()).is_some() || settings.target(client.target.as_str()).is_some();
    for protocol in listed.iter().filter(|protocol| known && !can(protocol)) {
        findings.error(key("password_protocols"), format!("holds {:?}, which {checker}", protocol.code()));
    }
    // nothing can be asked, and no code stands in the request.
    let phone = client.methods.iter().any(|method| method.is_out_of_band());
    if !listed.contains(&PasswordProtocol::Pap) && !phone {
        findings.error(
            key("password_protocols"),
            "has no \"pap\", by which alone a code is brought, and no method asks on the phone: nobody could log in",
        );
    }
}

///
pub(super) fn name_forms(findings: &mut Findings, client: &Client, key: Key<'_>) {
    let listed = &client.name_forms;
    for (place, form) in listed.iter().enumerate() {
        if listed[..place].contains(form) {
            findings.error(key("name_forms"), format!("{:?} stands twice", form.code()));
        }
    }
    if !listed.is_empty() && client.protocol == ClientProtocol::Api {
        findings.error(key("name_forms"), "is a key of RADIUS and LDAP clients");
    }
}
