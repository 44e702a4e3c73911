"""The configuration of the two servers. Both answer alike under the same paths.

`/hello` says hello, and in headers what it knows of the connection; `/empty` is 204; `/files/` are files, compressed if
the client takes that; `/echo` and `/limited` take uploads, the latter of 64 KiB at most.
"""

from __future__ import annotations

from string import Template


class Braced(Template):
    """`%{name}` is filled in: `$` belongs to nginx."""

    delimiter = "%"


_LOCATIONS = """\
        location = /hello { return 200 "hello"; }
        location = /empty { return 204; }
        location = /nothing { return 444; }
        location = /moved { absolute_redirect off; return 302 /hello; }
        location = /moved-away { port_in_redirect off; return 302 /hello; }
        location /files/ { root %{shared}; }
        location /until-closed/ { alias %{shared}/files/; chunked_transfer_encoding off; }
        location = /echo { proxy_pass http://127.0.0.1:%{behind}; }
        location = /limited { client_max_body_size 64k; proxy_pass http://127.0.0.1:%{behind}; }
"""
NGINX = Braced(
    """
daemon off;
master_process off;
pid %{folder}/pid;
error_log %{folder}/error.txt;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path %{folder}/body;
    proxy_temp_path %{folder}/proxy;
    fastcgi_temp_path %{folder}/fastcgi;
    uwsgi_temp_path %{folder}/uwsgi;
    scgi_temp_path %{folder}/scgi;
    default_type text/plain;
    types { application/octet-stream bin; }
    gzip on;
    # Without it nginx compresses nothing for whoever says that it is a proxy (Via).
    gzip_proxied any;
    gzip_vary on;
    gzip_min_length 1000;
    gzip_types text/plain;
    client_max_body_size 0;
    add_header x-connection $connection always;
    add_header x-requests $connection_requests always;
    add_header x-host $http_host always;
    add_header x-server-name $ssl_server_name always;
    add_header x-client-name $ssl_client_s_dn always;

    server {
        listen 127.0.0.1:%{plain};
        listen unix:%{unix};
LOCATIONS    }
    server {
        listen 127.0.0.1:%{hasty};
        keepalive_timeout 2ms;
        location = /hello { return 200 "hello"; }
    }
    server {
        listen 127.0.0.1:%{thrice};
        keepalive_requests 3;
        location = /hello { return 200 "hello"; }
        location = /echo { proxy_pass http://127.0.0.1:%{behind}; }
    }
    server {
        listen 127.0.0.1:%{tls} ssl default_server;
        server_name other.test;
        ssl_certificate %{shared}/other.pem;
        ssl_certificate_key %{shared}/other.pem;
        location = /hello { return 200 "other"; }
    }
    server {
        listen 127.0.0.1:%{tls} ssl;
        server_name localhost;
        ssl_certificate %{shared}/server.pem;
        ssl_certificate_key %{shared}/server.pem;
LOCATIONS    }
    server {
        listen 127.0.0.1:%{mtls} ssl;
        ssl_certificate %{shared}/server.pem;
        ssl_certificate_key %{shared}/server.pem;
        ssl_client_certificate %{shared}/authority.pem;
        ssl_verify_client on;
        location = /hello { return 200 "hello"; }
    }
    server {
        listen 127.0.0.1:%{behind};
        location / { return 200 "$content_length"; }
    }
}
""".replace("LOCATIONS", _LOCATIONS)
)

CADDY = Braced("""
{
    admin off
    auto_https off
    persist_config off
    skip_install_trust
    servers {
        protocols h1 h2
    }
    log {
        level ERROR
    }
}
(routes) {
    header x-connection {http.request.remote.port}
    header x-host {http.request.host}
    header x-server-name {http.request.tls.server_name}
    header x-client-name {http.request.tls.client.subject}
    respond /hello hello 200
    respond /empty 204
    redir /moved /hello 302
    respond /echo {http.request.body} 200
    handle /limited {
        request_body {
            max_size 64KiB
        }
        reverse_proxy 127.0.0.1:%{behind}
    }
    handle /files/* {
        encode gzip {
            minimum_length 1000
        }
        root * %{shared}
        file_server
    }
}
http://127.0.0.1:%{plain}, http://127.0.0.1:%{hasty}, http://127.0.0.1:%{thrice} {
    bind 127.0.0.1
    import routes
}
http://unix.test {
    bind unix/%{unix}
    import routes
}
https://localhost:%{tls} {
    bind 127.0.0.1
    tls %{shared}/server.pem %{shared}/server.pem
    import routes
}
https://localhost:%{mtls} {
    bind 127.0.0.1
    tls %{shared}/server.pem %{shared}/server.pem {
        client_auth {
            mode require_and_verify
            trust_pool file %{shared}/authority.pem
        }
    }
    import routes
}
http://127.0.0.1:%{behind} {
    bind 127.0.0.1
    respond {http.request.body} 200
}
""")
