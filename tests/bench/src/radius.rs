//! RADIUS logins, each under an identifier of its own.

use crate::load::{Ending, Load, Report, drive};
use crate::people::{Login, People};
use crate::ports::{Patience, Ports, code_of};
use anyhow::Result;
use radius_wire::{Attribute, AttributeType, Code, Packet, Port, RequestCode};
use std::{net::SocketAddr, sync::Arc};

/// Logins at once; what is due beyond has no identifier to ask with.
pub const AT_ONCE_MAX: usize = 65_536;

pub async fn run(
    server: SocketAddr,
    secret: &[u8],
    challenge: bool,
    people: Arc<People>,
    load: Load,
) -> Result<Report> {
    let ports = Arc::new(Ports::new(server, secret, AT_ONCE_MAX).await?);
    let what = if challenge { "radius pap, code by challenge" } else { "radius pap, code appended" };
    let report = drive(what, load, move || {
        let (ports, people) = (ports.clone(), people.clone());
        async move {
            match people.login() {
                None => NO_CODE,
                Some(login) if challenge => by_challenge(&ports, &login).await,
                Some(login) => appended(&ports, &login).await,
            }
        }
    });
    Ok(report.await)
}

/// Nobody has a code that was not used.
pub const NO_CODE: Ending = "no fresh code left";

/// Password and code in one field.
pub async fn appended(ports: &Ports, login: &Login) -> Ending {
    let password = format!("{},{}", login.password, login.code);
    ask(ports, &login.name, &password, None).await.map_or("timeout", |answer| answer.0)
}

async fn by_challenge(ports: &Ports, login: &Login) -> Ending {
    match ask(ports, &login.name, &login.password, None).await {
        Some(("challenge", Some(state))) => {
            ask(ports, &login.name, &login.code, Some(&state)).await.map_or("timeout", |(ending, _)| ending)
        }
        Some((ending, _)) => ending,
        None => "timeout",
    }
}

/// Reads one genuine answer.
async fn ask(ports: &Ports, name: &str, password: &str, state: Option<&[u8]>) -> Option<(Ending, Option<Vec<u8>>)> {
    let mut attributes = vec![
        Attribute { kind: AttributeType::USER_NAME, value: name.as_bytes() },
        Attribute { kind: AttributeType::NAS_IDENTIFIER, value: b"bench" },
    ];
    if let Some(state) = state {
        attributes.push(Attribute { kind: AttributeType::STATE, value: state });
    }
    let reply = ports.ask(RequestCode::AccessRequest, &attributes, Some(password), Patience::USUAL).await?;
    let ending = match code_of(&reply)? {
        Code::AccessAccept => "accept",
        Code::AccessChallenge => "challenge",
        _ => "reject",
    };
    let packet = Packet::parse(&reply, Port::AuthenticationReplies).ok()?;
    Some((ending, packet.first(AttributeType::STATE).map(<[u8]>::to_vec)))
}
