//! RADIUS logins, each from a socket of its own, so that identifiers never run out.

use crate::load::{Ending, Load, Report, drive};
use anyhow::Result;
use bench::people::{Login, People};
use radius_wire::{Attribute, AttributeType, Code, Packet, Port, Request, RequestCode, Rule, Secret};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::UdpSocket, time::timeout};

pub async fn run(
    server: SocketAddr,
    secret: &[u8],
    challenge: bool,
    people: Arc<People>,
    load: Load,
) -> Result<Report> {
    let secret = Arc::new(Secret::new(secret).ok_or_else(|| anyhow::anyhow!("the shared secret is empty"))?);
    let what = if challenge { "radius pap, code by challenge" } else { "radius pap, code appended" };
    let report = drive(what, load, move || {
        let (secret, people) = (secret.clone(), people.clone());
        async move {
            match people.login() {
                None => "no fresh code left",
                Some(login) if challenge => by_challenge(server, &secret, &login).await,
                Some(login) => {
                    let appended = format!("{},{}", login.password, login.code);
                    ask(server, &secret, &login.name, &appended, None).await.map_or("timeout", |answer| answer.0)
                }
            }
        }
    });
    Ok(report.await)
}

async fn by_challenge(server: SocketAddr, secret: &Secret, login: &Login) -> Ending {
    match ask(server, secret, &login.name, &login.password, None).await {
        Some(("challenge", Some(state))) => {
            ask(server, secret, &login.name, &login.code, Some(&state)).await.map_or("timeout", |(ending, _)| ending)
        }
        Some((ending, _)) => ending,
        None => "timeout",
    }
}

/// Sends, again every two seconds up to five times, and reads one genuine answer.
async fn ask(
    server: SocketAddr,
    secret: &Secret,
    name: &str,
    password: &str,
    state: Option<&[u8]>,
) -> Option<(Ending, Option<Vec<u8>>)> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.ok()?;
    socket.connect(server).await.ok()?;
    let mut authenticator = [0; 16];
    getrandom::fill(&mut authenticator).ok()?;
    let mut attributes = vec![
        Attribute { kind: AttributeType::USER_NAME, value: name.as_bytes() },
        Attribute { kind: AttributeType::NAS_IDENTIFIER, value: b"bench" },
    ];
    if let Some(state) = state {
        attributes.push(Attribute { kind: AttributeType::STATE, value: state });
    }
    let request = Request {
        code: RequestCode::AccessRequest,
        identifier: authenticator[0],
        authenticator,
        attributes: &attributes,
        password: Some(password),
    };
    let octets = request.write(secret).ok()?;
    let mut buffer = [0; 4096];
    for _ in 0..5 {
        socket.send(&octets).await.ok()?;
        let Ok(received) = timeout(Duration::from_secs(2), socket.recv(&mut buffer)).await else { continue };
        let packet = Packet::parse(&buffer[..received.ok()?], Port::AuthenticationReplies).ok()?;
        radius_wire::verify_reply(&packet, &request.sent(), secret, Rule::Yes).ok()?;
        let ending = match packet.code() {
            Code::AccessAccept => "accept",
            Code::AccessChallenge => "challenge",
            _ => "reject",
        };
        return Some((ending, packet.first(AttributeType::STATE).map(<[u8]>::to_vec)));
    }
    None
}
