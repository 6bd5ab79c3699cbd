package v1alpha1

import "github.com/npcnix/npcnix/apis/meta"

// HealthChecks decide whether a newly activated system is kept.
type HealthChecks struct {
	// Settle is the time between the end of the switch and the first check.
	Settle *meta.Duration `json:"settle,omitempty"`
	Checks []HealthCheck  `json:"checks,omitempty"`
}

// HealthCheck is one check: exactly one of Systemd, HTTP, TCP and Exec.
type HealthCheck struct {
	Name    string        `json:"name"`
	Systemd *SystemdCheck `json:"systemd,omitempty"`
	HTTP    *HTTPCheck    `json:"http,omitempty"`
	TCP     *TCPCheck     `json:"tcp,omitempty"`
	Exec    *ExecCheck    `json:"exec,omitempty"`

	Timeout          *meta.Duration `json:"timeout,omitempty"`
	Interval         *meta.Duration `json:"interval,omitempty"`
	SuccessThreshold *int32         `json:"successThreshold,omitempty"`
}

// SystemdCheck looks at the host's units.
type SystemdCheck struct {
	Require SystemdRequirement `json:"require"`
}

// SystemdRequirement is what a SystemdCheck asks of the units.
type SystemdRequirement string

// NoNewFailures asks that no unit failed that had not failed before the switch.
const NoNewFailures SystemdRequirement = "NoNewFailures"

// HTTPCheck succeeds when a GET of URL answers with a 2xx status.
type HTTPCheck struct {
	URL string `json:"url"`
}

// TCPCheck succeeds when Address accepts a connection.
type TCPCheck struct {
	Address string `json:"address"`
}

// ExecCheck runs a command that the host's own configuration defines by name.
type ExecCheck struct {
	Check string `json:"check"`
}
