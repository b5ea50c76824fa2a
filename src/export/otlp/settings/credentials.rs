//! Credentials, each bound to the layer that contains it.
//!
//! A layer is what one file says: an entry of a host, which is the command line and the environment, or the
//! user's config file. An entry may come from a cloned repository, so a header or a certificate of the config
//! file is sent only to a collector that the config file names, and the reverse. Variables may also belong to
//! another program: they complete an endpoint of the command line only if no variable names an endpoint.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::Uri;
use http::uri::Scheme;

use crate::export::otlp::settings::Signal;
use crate::export::otlp::settings::source::{OtlpSource, joined_path};
use crate::export::otlp::settings::table::SignalTable;
use crate::system::files::home::expand_home_or_fail;
use crate::text::baggage;

/// Headers and certificates for one signal.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    pub(super) headers: BTreeMap<String, String>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) client_certificate: Option<PathBuf>,
    pub(super) client_key: Option<PathBuf>,
    /// True if a proxy of the environment could read them, so that none is used.
    pub(super) is_direct: bool,
}

impl Credentials {
    fn of(table: SignalTable) -> Credentials {
        Credentials {
            headers: table.headers.unwrap_or_default(),
            certificate: table.certificate,
            client_certificate: table.client_certificate,
            client_key: table.client_key,
            is_direct: false,
        }
    }

    fn is_empty(&self) -> bool {
        let files = [&self.certificate, &self.client_certificate, &self.client_key];
        self.headers.is_empty() && files.iter().all(|file| file.is_none())
    }

    /// Lays `above` over these. The case of a header's name does not count.
    fn lay_over(&mut self, above: Credentials) {
        let is_above = |name: &str| above.headers.keys().any(|other| other.eq_ignore_ascii_case(name));
        self.headers.retain(|name, _| !is_above(name));
        self.headers.extend(above.headers);
        self.certificate = above.certificate.or(self.certificate.take());
        self.client_certificate = above.client_certificate.or(self.client_certificate.take());
        self.client_key = above.client_key.or(self.client_key.take());
    }
}

/// The layers whose credentials an endpoint gets.
#[derive(Clone, Copy)]
pub(super) struct Trust {
    flags: bool,
    pub(super) environment: bool,
    pub(super) file: bool,
}

impl OtlpSource<'_> {
    /// Returns the layers whose credentials `endpoint` gets: those that name it. `flag` is the endpoint of
    /// `--otlp`.
    pub(super) fn trust(&self, signal: Signal, flag: Option<&str>, endpoint: &str) -> Trust {
        let own_variable = |signal| self.of(signal, "ENDPOINT").map(|(endpoint, _)| endpoint);
        let (flags, file) = (self.tables.flags.endpoint_of(signal), self.tables.file.endpoint_of(signal));
        let (flags, variable) = (flag.or(flags), own_variable(signal));
        let names =
            |named: Option<&str>| named.is_some_and(|named| is_same_collector(named, endpoint, signal));
        let by_variable = names(variable.as_deref());
        // Without any endpoint the variables ask for the collector of this machine.
        let is_default = flags.is_none() && file.is_none() && variable.is_none();
        let by_entry = names(flags) || by_variable || is_default;
        let has_variable = Signal::ALL.into_iter().any(|signal| own_variable(signal).is_some());
        Trust { flags: by_entry, environment: by_variable || (by_entry && !has_variable), file: names(file) }
    }

    /// Returns the credentials that are sent, and the layers whose credentials are left out. The command line
    /// wins over the file, and the file over the environment.
    pub(super) fn credentials(
        &mut self,
        signal: Signal,
        trust: Trust,
        endpoint: &str,
    ) -> (Credentials, Vec<&'static str>) {
        let environment = self.credentials_of_environment(signal);
        let [file, flags] =
            [&self.tables.file, &self.tables.flags].map(|table| Credentials::of(table.of(signal)));
        let layers = [
            (environment, trust.environment, "OTEL_* variables", "set OTEL_EXPORTER_OTLP_ENDPOINT to it"),
            (file, trust.file, "config file", "name it as `endpoint` in [otlp] of that file"),
            (flags, trust.flags, "--otlp-set", "name it with --otlp"),
        ];
        let host = endpoint.parse::<Uri>().ok().and_then(|uri| Some(uri.host()?.to_owned()));
        let host = host.unwrap_or_else(|| "the collector".to_owned());
        let (has_file_headers, own_authority) =
            (trust.file && !layers[1].0.headers.is_empty(), layers[1].0.certificate.clone());
        let (mut sent, mut left_out) = (Credentials::default(), Vec::new());
        for (layer, is_trusted, name, way_out) in layers {
            if is_trusted {
                sent.lay_over(layer);
            } else if !layer.is_empty() {
                left_out.push(name);
                let place = if name == "config file" { "the config file" } else { name };
                let cause = format!(
                    "{host} does not get the headers and certificates of {place}, which does not name this \
                     collector; to send them, {way_out}"
                );
                self.warn(cause, "");
            }
        }
        // An entry can name a proxy, and authorities that accept its certificate.
        let is_systems = sent.certificate.is_none()
            && ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().all(|name| self.get(name).is_none());
        let is_users = sent.certificate.is_some() && sent.certificate == own_authority;
        let is_safe = !endpoint.starts_with("http:") && (is_systems || is_users);
        sent.is_direct = has_file_headers && !is_safe;
        if sent.client_certificate.is_some() != sent.client_key.is_some() {
            self.warn(
                "a client certificate and a client key are usable only together",
                "sending without them",
            );
        }
        (sent, left_out)
    }

    fn credentials_of_environment(&mut self, signal: Signal) -> Credentials {
        let headers = self.of(signal, "HEADERS").map(|(text, name)| {
            baggage::pairs(&text).unwrap_or_else(|| {
                self.warn(format!("{name} is not a list of name=value"), "its headers are not sent");
                Vec::new()
            })
        });
        let [certificate, client_certificate, client_key] =
            ["CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"]
                .map(|suffix| self.of(signal, suffix).map(|(path, _)| expand_home_or_fail(path.into())));
        Credentials {
            headers: headers.into_iter().flatten().collect(),
            certificate,
            client_certificate,
            client_key,
            is_direct: false,
        }
    }
}

/// Returns true if `named`, as it is or as a base, names the collector at `endpoint`: same scheme, host, port, path and
/// query. Paths of one host can belong to different tenants.
fn is_same_collector(named: &str, endpoint: &str, signal: Signal) -> bool {
    let parts = |endpoint: &str| {
        let uri: Uri = endpoint.trim().parse().ok()?;
        let usual = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => 443,
            _ => 80,
        };
        let address = (uri.host()?.to_ascii_lowercase(), uri.port_u16().unwrap_or(usual));
        let path = uri.path_and_query().map_or("", |path| path.as_str()).trim_end_matches('/').to_owned();
        Some((uri.scheme().cloned(), address, path))
    };
    let endpoint = parts(endpoint);
    endpoint.is_some()
        && [named.to_owned(), joined_path(named, signal)].iter().any(|named| parts(named) == endpoint)
}
