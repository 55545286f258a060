"""Runs programs inside the namespaces of one side, for the Go program that started it.

    python3 agent.py SOCKET [SCRIPT…]

One request is one connection to SOCKET with one line of JSON, and one line of JSON comes back:

    {"argv": […], "dir": DIR}                   runs it: {"exit": N, "stdout": TEXT, "stderr": TEXT}
    {"argv": […], "dir": DIR, "out": FILE}      starts it and does not wait: {"pid": N}
    {"wait": PID, "signal": N, "seconds": S}    sends the signal (0 for none), waits so long: {"exit": N}, or {} if it still runs

The SCRIPTs are programs in Python. They are compiled here once and run in a fork of this process, in which the modules of
the package firewall are loaded already: starting Python and loading them takes half a second each time otherwise.
"""
import gc, importlib, json, os, pkgutil, signal, socket, sys, time, traceback

scripts = {}


def prepare(paths):
    import firewall
    for module in pkgutil.walk_packages(firewall.__path__, "firewall."):
        try:
            importlib.import_module(module.name)
        except Exception:  # a part that wants what is not installed; the script says so if it wants it too
            pass
    for path in paths:
        with open(path) as f:
            scripts[path] = compile(f.read(), path, "exec")
    gc.collect()
    gc.freeze()  # forks share what is loaded with this process


def become(argv, directory, out, err):
    """The child: never returns."""
    code = 1
    try:
        null = os.open("/dev/null", os.O_RDONLY)
        for fd, to in ((null, 0), (out, 1), (err, 2)):
            os.dup2(fd, to)
        os.closerange(3, 256)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL if argv[0] not in scripts else signal.SIG_IGN)
        os.chdir(directory)
        if argv[0] not in scripts:
            os.execvp(argv[0], argv)
        sys.argv = argv
        if "--nofork" not in argv:
            gc.disable()
        try:
            exec(scripts[argv[0]], {"__name__": "__main__", "__file__": argv[0], "__builtins__": __builtins__})
            code = 0
        except SystemExit as e:
            if e.code is None:
                code = 0
            elif isinstance(e.code, int):
                code = e.code & 255
            else:
                print(e.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                pass
        os._exit(code)


def status(raw):
    return os.WEXITSTATUS(raw) if os.WIFEXITED(raw) else 128 + os.WTERMSIG(raw)


def text(fd):
    size = os.fstat(fd).st_size
    return os.pread(fd, size, 0).decode("utf-8", "replace")


def serve(request):
    if "wait" in request:
        if request.get("signal"):
            os.kill(request["wait"], request["signal"])
        until = time.monotonic() + request.get("seconds", 0)
        while True:
            pid, raw = os.waitpid(request["wait"], os.WNOHANG)
            if pid:
                return {"exit": status(raw)}
            if time.monotonic() >= until:
                return {}
            time.sleep(0.005)
    started = "out" in request
    if started:
        out = err = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    else:
        out, err = os.memfd_create("out"), os.memfd_create("err")
    try:
        pid = os.fork()
        if not pid:
            become(request["argv"], request.get("dir") or "/", out, err)
        if started:
            return {"pid": pid}
        _, raw = os.waitpid(pid, 0)
        return {"exit": status(raw), "stdout": text(out), "stderr": text(err)}
    finally:
        os.close(out)
        if not started:
            os.close(err)


def main():
    path = sys.argv[1]
    if sys.argv[2:]:
        prepare(sys.argv[2:])
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path + ".new")
    listener.listen(8)
    os.rename(path + ".new", path)
    while True:
        conn, _ = listener.accept()
        with conn, conn.makefile("rw", encoding="utf-8") as f:
            line = f.readline()
            if line:
                f.write(json.dumps(serve(json.loads(line))) + "\n")
                f.flush()


main()
