vcl 4.1;
# Varnish with a backend and nothing else: what may be cached is answered from memory, so this row is not about forwarding.
# Varnish uses the first backend that is declared, however many there are.
backend default { .host = "{backend_host}"; .port = "{backend_port}"; }
