//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The processors that servers and load run on, so that neither takes the other's.
const (
	serverCPU = "0"
	loadCPU   = "1"
)

// server is something that serves the measured files.
type server struct {
	name string
	addr string
	host string // the Host header
	cmd  *exec.Cmd
}

// end stops it, and gives it time to stop its own processes.
func (s *server) end() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	hard := time.AfterFunc(20*time.Second, func() { _ = s.cmd.Process.Kill() })
	defer hard.Stop()
	_ = s.cmd.Wait()
}

// processor is the processor time that it has used, where the system says so in /proc; else 0. Of
// a server that works in other processes too it isn't known.
func (s *server) processor() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil || s.name == "nginx" {
		return 0
	}
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * (time.Second / ticksPerSecond)
}

// ticksPerSecond is in what Linux counts processor time, on every machine that Go runs on.
const ticksPerSecond = 100

// pinned is a command that runs on one processor.
func pinned(ctx context.Context, cpu string, cmd *exec.Cmd) *exec.Cmd {
	p := exec.CommandContext(ctx, "taskset", append([]string{"-c", cpu, cmd.Path}, cmd.Args[1:]...)...)
	p.Env, p.Dir, p.Stderr = cmd.Env, cmd.Dir, cmd.Stderr
	return p
}

// bareLike starts a bare net/http server that sends the page and the large file as ours does.
func (b *bench) bareLike(ctx context.Context, ours *server, dir string) (*server, error) {
	files, header := map[string]string{}, map[string]http.Header{}
	for _, p := range []string{"/page.html", "/large.bin"} {
		h, err := ours.ask(ctx, p)
		if err != nil {
			return nil, err
		}
		h.Del("Date")
		files[p], header[p] = filepath.Join(dir, p), h
	}
	return b.bare(ctx, header, files)
}

// bare starts a bare net/http server with the header that ours sent.
func (b *bench) bare(ctx context.Context, header map[string]http.Header, files map[string]string) (*server, error) {
	cmd, err := b.childCommand(ctx, "bare", bareJob{Files: files, Header: header}, "GOMAXPROCS=1")
	if err != nil {
		return nil, err
	}
	cmd = pinned(ctx, serverCPU, cmd)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{name: "net/http", cmd: cmd}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		s.end()
		return nil, fmt.Errorf("net/http: %w", err)
	}
	s.addr, s.host = strings.TrimSpace(line), strings.TrimSpace(line)
	return s, nil
}

// nginx starts Debian's nginx as it is recommended for static files. The user counts only where we are
// root: nobody else could read our folder.
func (b *bench) nginx(ctx context.Context, dir string) (*server, error) {
	conf := func(addr string) string {
		return fmt.Sprintf(`daemon off; user root; worker_processes 1; pid %[1]s/nginx.pid; error_log /dev/null;
events { worker_connections 8192; }
http { types { text/html html; } sendfile on; tcp_nopush on; access_log off; keepalive_requests 100000000; open_file_cache max=1000;
client_body_temp_path %[1]s/nb; proxy_temp_path %[1]s/np; fastcgi_temp_path %[1]s/nf; uwsgi_temp_path %[1]s/nu; scgi_temp_path %[1]s/ns;
server { listen %[2]s; root %[3]s; } }`, b.tmp, addr, dir)
	}
	return b.rival(ctx, "nginx", conf, "-c")
}

// caddy starts Debian's Caddy as a file server.
func (b *bench) caddy(ctx context.Context, dir string) (*server, error) {
	conf := func(addr string) string {
		return fmt.Sprintf("{\n admin off\n auto_https off\n}\nhttp://%s {\n root * %s\n file_server\n}\n", addr, dir)
	}
	return b.rival(ctx, "caddy", conf, "run", "--adapter", "caddyfile", "--config")
}

// errNoRival says that a program is not installed.
var errNoRival = errors.New("is not installed here (apt-get install nginx caddy): left out")

// rival starts a program with a configuration file, which comes last of its arguments.
func (b *bench) rival(ctx context.Context, program string, conf func(addr string) string, args ...string) (*server, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, fmt.Errorf("%s %w", program, errNoRival)
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.tmp, program+".conf")
	if err := os.WriteFile(file, []byte(conf(addr)), 0o644); err != nil {
		return nil, err
	}
	cmd := exec.Command(path, append(args, file)...)
	cmd.Env = append(os.Environ(), "HOME="+b.tmp, "XDG_DATA_HOME="+b.tmp, "XDG_CONFIG_HOME="+b.tmp, "GOMAXPROCS=1")
	cmd = pinned(ctx, serverCPU, cmd)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{name: program, addr: addr, host: addr, cmd: cmd}
	for range 100 {
		if conn, err := net.Dial("tcp", addr); err == nil {
			return s, conn.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.end()
	return nil, fmt.Errorf("%s does not answer", program)
}

// freeAddr is an address that nobody listened at a moment ago: these programs don't say which they took.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// ask sends one request to a server, and gives the header of the answer.
func (s *server) ask(ctx context.Context, path string) (http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+path, nil)
	if err != nil {
		return nil, err
	}
	req.Host = s.host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s%s: %s", s.name, path, resp.Status)
	}
	return resp.Header, nil
}

// load puts load on a server.
func (b *bench) load(ctx context.Context, s *server, j loadJob) (done loadDone, err error) {
	j.Addr, j.Host = s.addr, s.host
	if j.Conns == 0 {
		j.Conns = 16
	}
	if j.Status == 0 {
		j.Status = http.StatusOK
	}
	file := filepath.Join(b.tmp, "load.json") // a hundred thousand paths are too long for a command line
	text, err := json.Marshal(j)
	if err != nil {
		return done, err
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return done, err
	}
	cmd, err := b.childCommand(ctx, "load", file)
	if err != nil {
		return done, err
	}
	cmd = pinned(ctx, loadCPU, cmd)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return done, fmt.Errorf("load on %s: %w", s.name, err)
	}
	return done, json.Unmarshal(out, &done)
}

func readFiles(files map[string]string) (map[string][]byte, error) {
	out := make(map[string][]byte, len(files))
	for path, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		out[path] = data
	}
	return out, nil
}
