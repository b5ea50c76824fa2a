//! The options of a run, from its settings. A collector with a part of its settings is not started: without its token it
//! would be open, and without its headers the target would refuse every request.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING,
};
use http::{HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use crate::cli::selection::note;
use crate::cli::{exit_with, hint};
use crate::collect::{CollectOptions, ForwardSettings, TokenHash};
use crate::export::log::LogSettings;
use crate::export::otlp::OtlpSettings;
use crate::record::cost::ModelPrices;
use crate::settings::{SettingOrigin, Settings, process_environment};
use crate::system::access::{self, FileAccess};
use crate::system::files::home::expand_home_or_fail;
use crate::system::files::read_limited;

/// Largest file of a secret, in bytes.
const MAX_SECRET: u64 = 64 << 10;
/// Shortest token, in bytes.
const SHORTEST_TOKEN: usize = 16;

pub(super) fn of(settings: &Settings) -> anyhow::Result<CollectOptions> {
    let (token, forward) = credentials(settings)?;
    let folder = || {
        let problem = anyhow!("no folder for session logs is known");
        settings.log_folder().ok_or_else(|| hint(problem, "name one with --log-dir DIR"))
    };
    let log = |folder| LogSettings {
        folder,
        max_size: settings.max_log_size.value,
        max_total_size: settings.max_total_size.value,
    };
    Ok(CollectOptions {
        listen: settings.collect_listen.value.clone().unwrap_or_default(),
        token,
        log: settings.log.value.then(folder).transpose()?.map(log),
        max_day_size: settings.max_session_size.value,
        redactor: settings.redaction.redactor(),
        prices: ModelPrices::new(&settings.cost_models),
        forward,
        otlp: otlp(settings)?,
        warn: note,
    })
}

/// Returns how metrics are sent. The endpoints of the config file and of the environment are those of the proxies, and may
/// be this collector, so only the flag asks for them.
fn otlp(settings: &Settings) -> anyhow::Result<Option<OtlpSettings>> {
    if settings.otlp_endpoint.origin != SettingOrigin::Flag {
        return Ok(None);
    }
    let (otlp, warnings) = settings.otlp(&process_environment);
    warnings.iter().for_each(|warning| note(&warning.to_string()));
    let otlp = otlp.filter(|otlp| otlp.metrics.is_some());
    otlp.map(Some).ok_or_else(|| {
        let problem = anyhow!("--otlp would send nothing, because metrics are turned off");
        let way_out = "add --otlp-set metrics=true, or remove --otlp; OTEL_SDK_DISABLED must not be true";
        exit_with(2, problem, way_out)
    })
}

/// Returns why a collector with these settings does not start, for `doctor`.
pub(in crate::cli) fn start_problem(settings: &Settings) -> Option<anyhow::Error> {
    credentials(settings).err()
}

fn credentials(settings: &Settings) -> anyhow::Result<(Option<TokenHash>, Option<ForwardSettings>)> {
    let is_own = |name: &&str| *name == "collect" || name.starts_with("collect.");
    if let Some(name) = settings.problems.iter().find_map(|problem| problem.setting.filter(is_own)) {
        let problem = match name {
            "collect" => anyhow!("a line or name that may belong to `[collect]` cannot be read"),
            name => anyhow!("`{name}` cannot be used"),
        };
        return Err(exit_with(2, problem, "correct it, or leave it out"));
    }
    let token = settings.collect_token_file.value.as_deref().map(token).transpose()?;
    let listen = settings.collect_listen.value.as_deref().unwrap_or_default();
    if let Some(open) = listen.iter().find(|address| address.is_open())
        && token.is_none()
    {
        let problem = anyhow!("other machines can reach {open}, so clients must send a token");
        return Err(exit_with(2, problem, "make a file with a token, and name it with --token-file FILE"));
    }
    let forward = forward(settings, token.is_some())?;
    Ok((token, forward))
}

fn forward(settings: &Settings, has_token: bool) -> anyhow::Result<Option<ForwardSettings>> {
    let (target, headers) = (&settings.collect_forward, &settings.collect_forward_headers);
    let Some(url) = target.value.clone() else {
        return match headers.origin {
            SettingOrigin::Flag => {
                Err(exit_with(2, anyhow!("--forward-header needs a target"), "name it with --forward URL"))
            }
            _ => Ok(None),
        };
    };
    let uri: Option<http::Uri> = url.parse().ok().filter(|uri: &http::Uri| uri.host().is_some());
    let Some(scheme @ ("http" | "https")) = uri.as_ref().and_then(http::Uri::scheme_str) else {
        let problem = anyhow!("--forward is not the URL of a collector");
        return Err(exit_with(2, problem, "write it as http://HOST:4318, without the path of a signal"));
    };
    // An entry that a host starts may name a target. It does not get the headers of the config file.
    let is_of_file = |origin: &SettingOrigin| matches!(origin, SettingOrigin::File { .. });
    let has_file_headers = headers.value.is_some() && is_of_file(&headers.origin);
    if headers.value.is_some() && has_file_headers != is_of_file(&target.origin) {
        let (headers, target) = (&headers.origin, &target.origin);
        let problem = anyhow!("the headers of requests are set by {headers}, and their target by {target}");
        return Err(exit_with(2, problem, "name both on the command line, or both in the config file"));
    }
    let is_open = scheme == "http"
        || ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some());
    let is_direct = has_file_headers && is_open;
    let redactor = settings.redaction.redactor();
    let mut forward = ForwardSettings { url, names: Vec::new(), headers: Vec::new(), is_direct, redactor };
    for written in headers.value.iter().flatten() {
        add_header(&mut forward, written, has_token)?;
    }
    Ok(Some(forward))
}

/// Adds a header as the user wrote it: NAME, NAME=VALUE or NAME=@FILE.
fn add_header(forward: &mut ForwardSettings, written: &str, has_token: bool) -> anyhow::Result<()> {
    let (name, value) = written.split_once('=').map_or((written, None), |(name, value)| (name, Some(value)));
    let value = match value.map(|value| (value, value.strip_prefix('@'))) {
        None => None,
        Some((_, Some(file))) => Some(secret(&expand_home_or_fail(PathBuf::from(file)), "header")?),
        Some((value, None)) => Some(value.to_owned()),
    };
    let own = [CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING];
    let Ok(header) = name.trim().parse::<HeaderName>() else {
        // What is not a name can contain a secret, as in `authorization: Bearer TOKEN`.
        let problem = anyhow!("a header does not begin with a name");
        return Err(exit_with(2, problem, "write NAME, NAME=VALUE or NAME=@FILE"));
    };
    if own.contains(&header) {
        let problem = anyhow!("the header `{header}` belongs to each single request");
        return Err(exit_with(2, problem, "leave it out: spantap sets it by itself"));
    }
    if value.as_ref().is_some_and(|value| HeaderValue::from_str(value).is_err()) {
        let problem = anyhow!("the value of the header `{header}` cannot be sent");
        return Err(exit_with(2, problem, "write it in one line of visible ASCII characters and blanks"));
    }
    match value {
        Some(value) => forward.headers.push((header.to_string(), value)),
        None if has_token && header == AUTHORIZATION => {
            let problem = anyhow!("the header authorization would pass this collector's token on");
            return Err(exit_with(2, problem, "write authorization=@FILE, with `Bearer TOKEN` in the file"));
        }
        None => forward.names.push(header),
    }
    Ok(())
}

/// Returns the hash of the token in the file `path`.
fn token(path: &Path) -> anyhow::Result<TokenHash> {
    let token = secret(path, "token")?;
    if token.len() < SHORTEST_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem = anyhow!("the token in `{}` is not one word of 16 characters at least", path.display());
        return Err(hint(problem, "make one: head -c 24 /dev/urandom | base64"));
    }
    Ok(Sha256::digest(token).into())
}

/// Returns the text of a file that only the user may read, without the spaces around it.
fn secret(path: &Path, what: &str) -> anyhow::Result<String> {
    let file = path.display();
    let unreadable = |error: anyhow::Error| {
        let problem = error.context(format!("failed to read the {what} in `{file}`"));
        hint(problem, format!("write the {what} into that file, as one line, or name another file"))
    };
    let bytes = read_limited(path, MAX_SECRET).map_err(|error| unreadable(error.into()))?;
    if FileAccess::at(path).map_err(|error| unreadable(error.into()))?.is_open {
        let problem = anyhow!("other users can read the {what} in `{file}`");
        return Err(hint(problem, access::command_to_close(path)));
    }
    let text = String::from_utf8(bytes.trim_ascii().to_vec()).map_err(|error| unreadable(error.into()))?;
    if text.contains(['\r', '\n']) {
        let problem = anyhow!("the {what} in `{file}` has more than one line, so it is not used");
        return Err(hint(problem, format!("leave only the {what} itself in that file, as one line")));
    }
    Ok(text)
}
