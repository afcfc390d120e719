//! The Windows domain as a target: the domain that this host has joined, by winbind (FR-08, R-56, R-57).

use crate::winbind::{Winbind, WinbindError};
use arc_swap::ArcSwap;
use domain::ObjectName;
use domain::settings::{self, TargetKind};
use radius_wire::ms_chap::{ENCRYPTION_TYPES, EncryptionPolicy, MppeKeys, V2, attribute, kind};
use radius_wire::{AttributeType, Hiding, HidingKey, OwnedAttribute, WriteError};
use service_kit::health::Health;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often it is asked whether the domain answers.
const PROBE_EVERY: Duration = Duration::from_secs(30);
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// All targets of kind `windows_domain`, as the settings name them now.
pub(crate) struct WindowsTargets {
    program: PathBuf,
    health: Health,
    current: ArcSwap<HashMap<ObjectName, Arc<WindowsTarget>>>,
}

pub(crate) struct WindowsTarget {
    pub(crate) settings: settings::Target,
    winbind: Winbind,
}

/// A response that the domain found right, and what it gives the device besides the yes.
#[derive(Clone)]
pub(crate) struct Proven(Arc<Inner>);

struct Inner {
    success: [u8; 43],
    keys: MppeKeys,
}

impl WindowsTargets {
    pub(crate) fn new(program: PathBuf, health: Health) -> Self {
        Self { program, health, current: ArcSwap::default() }
    }

    pub(crate) fn named(&self, name: &ObjectName) -> Option<Arc<WindowsTarget>> {
        self.current.load().get(name).cloned()
    }

    /// Those of a new revision of the settings. One that stays as it was keeps its helpers.
    pub(crate) fn replace(&self, wanted: &[settings::Target]) {
        let before = self.current.load_full();
        let mut current = HashMap::new();
        for target in wanted.iter().filter(|target| target.kind == TargetKind::WindowsDomain) {
            let same = before.get(&target.name).filter(|former| former.settings == *target).cloned();
            let made = same.unwrap_or_else(|| {
                let domain = (!target.domain.is_empty()).then(|| target.domain.clone());
                let winbind = Winbind::new(self.program.clone(), domain);
                Arc::new(WindowsTarget { settings: target.clone(), winbind })
            });
            current.insert(target.name.clone(), made);
        }
        for gone in before.keys().filter(|name| !current.contains_key(*name)) {
            self.health.upstream("target", gone.as_str()).forget();
        }
        self.current.store(Arc::new(current));
    }

    /// Asks now and then whether the domains answer, for those who look after them (FR-08: "not ready").
    pub(crate) async fn watch(self: Arc<Self>) {
        loop {
            for target in self.current.load_full().values() {
                let name = target.settings.name.as_str();
                let begun = Instant::now();
                match target.winbind.is_joined(begun + PROBE_LIMIT).await {
                    Ok(()) => self.health.upstream("target", name).up(begun.elapsed()),
                    Err(error) => {
                        self.health.upstream("target", name).down(error.to_string());
                        tracing::warn!(service = crate::NAME, target = name, error = %service_kit::chain(&error), "the Windows domain cannot be asked from this host");
                    }
                }
            }
            tokio::time::sleep(PROBE_EVERY).await;
        }
    }
}

impl WindowsTarget {
    pub(crate) async fn password(
        &self,
        name: &str,
        password: &domain::Secret,
        deadline: Instant,
    ) -> Result<(), WinbindError> {
        self.winbind.password(name, password, deadline).await
    }

    /// `user_name` is the name as sent: it is a part of what was hashed. `account` is whom the domain is asked about.
    pub(crate) async fn ms_chap2(
        &self,
        user_name: &str,
        account: &str,
        response: &V2<'_>,
        deadline: Instant,
    ) -> Result<Proven, WinbindError> {
        let challenge = response.challenge_hash(user_name);
        let hash = self.winbind.ms_chap2(account, &challenge, response.nt_response, deadline).await?;
        Ok(Proven(Arc::new(Inner { success: response.success(user_name, &hash), keys: response.keys(&hash) })))
    }
}

impl Proven {
    /// MS-CHAP2-Success, and the keys of the encryption that follows (RFC 2548 section 2.4), hidden for this device.
    pub(crate) fn attributes(&self, key: HidingKey<'_>) -> Result<Vec<OwnedAttribute>, WriteError> {
        let mut salts = crate::attributes::salts();
        let mut hide = |clear: &[u8]| {
            Hiding::TunnelPassword
                .hide(clear, key, &mut salts)
                .map_err(|_| WriteError::ValueTooLong(AttributeType::VENDOR_SPECIFIC))
        };
        let values = [
            (kind::MS_CHAP2_SUCCESS, self.0.success.to_vec()),
            (kind::MS_MPPE_RECV_KEY, hide(self.0.keys.recv.as_slice())?),
            (kind::MS_MPPE_SEND_KEY, hide(self.0.keys.send.as_slice())?),
            (kind::MS_MPPE_ENCRYPTION_POLICY, EncryptionPolicy::Required.value().to_vec()),
            (kind::MS_MPPE_ENCRYPTION_TYPES, ENCRYPTION_TYPES.to_vec()),
        ];
        let whole = |(kind, value): (u8, Vec<u8>)| {
            Ok(OwnedAttribute { kind: AttributeType::VENDOR_SPECIFIC, value: attribute(kind, &value)? })
        };
        values.into_iter().map(whole).collect()
    }
}
