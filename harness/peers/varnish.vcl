vcl 4.1;
# Varnish as a reverse proxy that keeps nothing: every request is passed, which is the row that compares with the others. Varnish is
# made to answer from its cache; `varnish@stock` shows that. Words in braces are filled in for each session; a line that names a
# backend is written once for each of them.

import directors;

# No cap on connections; timeouts that outlast what is slow on purpose.
backend b{index} { .host = "{backend_host}"; .port = "{backend_port}"; .connect_timeout = 5s; .first_byte_timeout = 300s; .between_bytes_timeout = 300s; .max_connections = 0; }

sub vcl_init {
    new backends = directors.round_robin();
    backends.add_backend(b{index});
}

sub vcl_recv {
    set req.backend_hint = backends.backend();
    unset req.http.X-Forwarded-For;     # added before this point; nothing is added in this profile
    return (pass);
}

sub vcl_backend_fetch {
    unset bereq.http.X-Varnish;         # the same
    unset bereq.http.Via;
    return (fetch);
}

sub vcl_backend_response {
    set beresp.do_stream = true;        # bodies pass while they come, as through the other peers
    return (deliver);
}

sub vcl_deliver {
    unset resp.http.X-Varnish;
    unset resp.http.Via;
    unset resp.http.Age;
    return (deliver);
}
