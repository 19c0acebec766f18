"""nginx, for W9 alone: what a server in C makes of clients that pipeline. Its responses are always the same.

``python nginx_app.py PORT DATA UPSTREAM POLL_SECONDS``
"""

import os
import sys
from pathlib import Path

port, data, *_ = sys.argv[1:]
folder = Path(data)
folder.mkdir(parents=True, exist_ok=True)
(folder / "nginx.conf").write_text(f"""
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log {folder}/access.log;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type application/json;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        if ($request_method = POST) {{ return 202 '{{"status":"received","task":2,"result":null}}'; }}
        if ($arg_task_id = 1) {{ return 404 '{{"status":"not_found","result":null}}'; }}
        location / {{ return 202 '{{"status":"wait","result":null}}'; }}
    }}
}}
""")
os.execvp("nginx", ["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")])
