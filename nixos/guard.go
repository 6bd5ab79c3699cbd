package nixos

import (
	"context"
	"time"
)

// Guard runs this very program's guard of a transaction, apart from the agent:
// at a time, or at once. It outlives the agent, and no reboot.
type Guard interface {
	// Prepare keeps the guard's program for the transaction in dir, whatever
	// becomes of the system that it came with. Arm does so too.
	Prepare(ctx context.Context, id, dir string) error
	// Arm makes the guard of the transaction in dir run after that time. An
	// armed one is replaced.
	Arm(ctx context.Context, id, dir string, after time.Duration) error
	// Fire makes it run now. One that runs already goes on.
	Fire(ctx context.Context, id, dir string) error
	// Disarm makes it not run any more; one that runs goes on.
	Disarm(ctx context.Context, id string) error
	// Runs reports whether it runs just now.
	Runs(ctx context.Context, id string) (bool, error)
}

// Power restarts the machine.
type Power interface {
	// Reboot asks for a reboot and returns; the machine goes down soon after.
	Reboot(ctx context.Context, why string) error
	// Wall tells everybody who is logged in.
	Wall(ctx context.Context, message string) error
}

// Service is the agent's own service, as the machine defines it.
type Service interface {
	// Managed reports whether this process is a service that Restart restarts.
	Managed() bool
	// Outdated says in which way the running system defines another agent
	// than this process, or "". It is always "" where the agent is no unit of
	// the running system.
	Outdated(ctx context.Context) (string, error)
	// Removes reports whether the running system starts the agent and the
	// toplevel does not.
	Removes(ctx context.Context, toplevel string) (bool, error)
	// Restart asks for this agent to be ended and started anew.
	Restart(ctx context.Context) error
	// Warnings says what the machine does not offer for the agent's safety,
	// in one sentence each.
	Warnings(ctx context.Context) []string
}

// Prober looks at what a machine serves.
type Prober interface {
	// HTTP gets a URL and wants a 2xx answer.
	HTTP(ctx context.Context, url string) error
	// TCP wants that a connection to host:port is accepted.
	TCP(ctx context.Context, address string) error
	// Exec runs a command that the host's configuration defines by name, and
	// wants exit code 0.
	Exec(ctx context.Context, name string) error
}
