package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sys/unix"

	"github.com/npcnix/npcnix/apis/v1alpha1"
	"github.com/npcnix/npcnix/reconciler/host"
)

// socketPath is where the agent listens, below root.
func socketPath(root string) string { return filepath.Join(root, "run/npcnix/control.sock") }

const (
	// maxRequest bounds a request on the socket, in bytes.
	maxRequest = 4 << 10
	// controlLimit bounds a request on the socket.
	controlLimit = 10 * time.Second
)

// answer is what the agent says on its socket.
type answer struct {
	// Message says what was done.
	Message string `json:"message,omitempty"`
	// Suspension is the one by a person on this host, if there is one.
	Suspension *host.Suspension `json:"suspension,omitempty"`
	// Status is the newest, whether or not it could be written to the store.
	Status *v1alpha1.HostStatus `json:"status,omitempty"`
	Error  string               `json:"error,omitempty"`
}

// request is what a person asks for.
type request struct {
	Reason string        `json:"reason,omitempty"`
	For    time.Duration `json:"for,omitempty"`
}

// control answers people on the host, also while the store is down.
type control struct {
	r   *host.Reconciler
	now func(name string)
	log logr.Logger
}

// listen opens the socket, for root alone.
func listen(ctx context.Context, path string) (net.Listener, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of the control socket: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a directory
		return nil, fmt.Errorf("close directory of the control socket: %w", err)
	}
	// The state directory's lock says that no other agent listens.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove an earlier agent's control socket: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("close control socket to others: %w", err), listener.Close())
	}
	return listener, nil
}

// serve answers until ctx ends.
func (c *control) serve(ctx context.Context, listener net.Listener) {
	server := &http.Server{
		Handler: c.handler(), ReadTimeout: controlLimit, WriteTimeout: controlLimit, MaxHeaderBytes: maxRequest,
	}
	go func() {
		<-ctx.Done()
		_ = server.Close() // who asked just now is told by the end of the connection
	}()
	if err := server.Serve(ownListener{listener}); !errors.Is(err, http.ErrServerClosed) {
		c.log.Error(err, "The control socket does not answer any more")
	}
}

// ownListener turns everybody away but root and this process's own user.
type ownListener struct{ net.Listener }

func (l ownListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err //nolint:wrapcheck // the server's own
		}
		if allowed(conn) {
			return conn, nil
		}
		_ = conn.Close() // nothing was said
	}
}

func allowed(conn net.Conn) bool {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return false
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return false
	}
	allowed := false
	err = raw.Control(func(fd uintptr) {
		peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		allowed = err == nil && (peer.Uid == 0 || int(peer.Uid) == os.Getuid())
	})
	return err == nil && allowed
}

func (c *control) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(q request) (answer, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			var q request
			if r.Method == http.MethodPost {
				if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&q); err != nil {
					reply(w, http.StatusBadRequest, answer{Error: err.Error()})
					return
				}
			}
			a, err := f(q)
			if err != nil {
				reply(w, http.StatusInternalServerError, answer{Error: err.Error()})
				return
			}
			a.Suspension = c.r.Suspended()
			reply(w, http.StatusOK, a)
		})
	}
	handle("GET /status", func(request) (answer, error) { return answer{Status: c.r.Status()}, nil })
	handle("POST /suspend", c.suspend)
	handle("POST /resume", func(request) (answer, error) {
		was, err := c.r.Resume()
		c.now("resume")
		if !was {
			return answer{Message: "This host was not suspended here. Its HostSpec or HostOverride may suspend it all the same: npcnix-reconciler status"}, err
		}
		return answer{Message: "Not suspended here any more. Its HostSpec or HostOverride may suspend it all the same: npcnix-reconciler status"}, err
	})
	handle("POST /reconcile", func(request) (answer, error) { return c.ask(false) })
	handle("POST /retry", func(request) (answer, error) { return c.ask(true) })
	return mux
}

func (c *control) suspend(q request) (answer, error) {
	if q.Reason == "" {
		return answer{}, errors.New("a suspension needs a reason")
	}
	s, err := c.r.Suspend(q.Reason, q.For)
	c.now("suspend")
	until := "until npcnix-reconciler resume"
	if !s.Until.IsZero() {
		until = "until " + s.Until.Format(time.RFC3339)
	}
	return answer{Message: "Suspended " + until + ". What is under way is ended first."}, err
}

func (c *control) ask(retry bool) (answer, error) {
	if s := c.r.Suspended(); s != nil {
		return answer{}, fmt.Errorf("this host is suspended here (%s), so nothing would happen; lift that first: npcnix-reconciler resume", s.Reason)
	}
	c.r.Ask(retry)
	c.now("reconcile")
	message := "Looking now."
	if retry {
		message += " Quarantine and back-off are forgotten; suspension and the grace of a drift are not."
	}
	if s := c.r.Status(); s != nil && suspension(s) != "" {
		message += " But at the last look it was suspended: " + suspension(s)
	}
	return answer{Message: message}, nil
}

func reply(w http.ResponseWriter, code int, a answer) {
	data, err := json.Marshal(a)
	if err != nil {
		code, data = http.StatusInternalServerError, []byte(`{"error": "the answer cannot be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(data) // else whoever asked has gone
}
