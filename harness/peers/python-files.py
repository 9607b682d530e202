"""Python's file server as `python3 -m http.server` runs it, with room for the connections that a row opens at once: its own queue
holds five, and whoever finds it full asks again after a second, then after three, so that a row would time the kernel's patience."""
import runpy
import socketserver

socketserver.TCPServer.request_queue_size = 128
runpy.run_module("http.server", run_name="__main__", alter_sys=True)
