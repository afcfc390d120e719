//! The running product, as the command line reaches it: the local socket, or mutual TLS with an administrator's certificate.

use crate::{
    config::AdminSection,
    failure::{Exit, Failure},
};
use proto::{
    directory::{directories_client::DirectoriesClient, password_check_client::PasswordCheckClient},
    user_store::admin_client::AdminClient,
    verification::enrolment_client::EnrolmentClient,
};
use service_kit::grpc::Channel;

pub struct Connection {
    pub admin: AdminClient<Channel>,
    pub enrolment: EnrolmentClient<Channel>,
    pub directory: PasswordCheckClient<Channel>,
    pub directories: DirectoriesClient<Channel>,
    /// Who is named in the audit.
    pub actor: String,
}

impl Connection {
    pub fn open(section: &AdminSection) -> Result<Self, Failure> {
        let (store, verification, directory) = match &section.remote {
            Some(remote) => {
                let channel = |part, endpoints| {
                    Channel::new(part, endpoints, &remote.grpc).map_err(|error| {
                        Failure::new(Exit::Unreachable, format!("{error}: {}", crate::sentence(&error)))
                    })
                };
                (
                    channel("user-store", &remote.user_store)?,
                    channel("verification", &remote.verification)?,
                    channel("ldap-gateway", &remote.directory)?,
                )
            }
            None => {
                if !section.socket.exists() {
                    let text = format!(
                        "no Twinlock runs here: the socket {} is missing; start `twinlock serve`, or name its \
                         configuration with --config",
                        section.socket.display()
                    );
                    return Err(Failure::new(Exit::Unreachable, text));
                }
                let channel = Channel::unix(&section.socket);
                (channel.clone(), channel.clone(), channel)
            }
        };
        let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| "unknown".into());
        let user: String = user.chars().filter(|sign| !sign.is_control()).take(64).collect();
        Ok(Self {
            admin: AdminClient::new(store),
            enrolment: EnrolmentClient::new(verification),
            directory: PasswordCheckClient::new(directory.clone()),
            directories: DirectoriesClient::new(directory),
            actor: format!("cli:{user}"),
        })
    }
}
