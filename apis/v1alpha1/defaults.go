package v1alpha1

import (
	"cmp"
	"time"

	"github.com/npcnix/npcnix/apis/meta"
)

// WithDefaults returns the spec with every default of the design filled in;
// name is the host's. Suspend, MaintenanceWindow and HealthChecks stay absent
// where they are absent. The receiver is not changed.
func (s HostSpecSpec) WithDefaults(name string) HostSpecSpec {
	s.FlakeAttribute = cmp.Or(s.FlakeAttribute, name)
	s.Origin = cmp.Or(s.Origin, OriginAuto)
	poll := value(s.PollInterval)
	poll.Min = duration(poll.Min, 5*time.Second)
	poll.Max = duration(poll.Max, 120*time.Second)
	s.PollInterval = &poll
	policy := value(s.RebuildPolicy).WithDefaults()
	s.RebuildPolicy = &policy
	if s.MaintenanceWindow != nil {
		w := *s.MaintenanceWindow
		if w.Gates == nil {
			w.Gates = []Gate{GateActivate, GateReboot}
		}
		w.Splay = duration(w.Splay, 0)
		s.MaintenanceWindow = &w
	}
	return s
}

// WithDefaults returns the policy with every default filled in.
func (p RebuildPolicy) WithDefaults() RebuildPolicy {
	p.Mode = cmp.Or(p.Mode, ModeSwitch)
	drift := value(p.Drift)
	drift.Action = cmp.Or(drift.Action, DriftCorrect)
	drift.Grace = duration(drift.Grace, 15*time.Minute)
	p.Drift = &drift

	reboot := value(p.Reboot)
	reboot.When = cmp.Or(reboot.When, RebootNever)
	reboot.Delay = duration(reboot.Delay, time.Minute)
	sessions := value(reboot.Sessions)
	sessions.Postpone = duration(sessions.Postpone, time.Hour)
	reboot.Sessions = &sessions
	p.Reboot = &reboot

	retry := value(p.Retry)
	retry.MaxAttempts = cmp.Or(retry.MaxAttempts, new(int32(5)))
	retry.MinBackoff = duration(retry.MinBackoff, 30*time.Second)
	retry.MaxBackoff = duration(retry.MaxBackoff, time.Hour)
	p.Retry = &retry

	timeouts := value(p.Timeouts)
	timeouts.Build = duration(timeouts.Build, 2*time.Hour)
	timeouts.Activate = duration(timeouts.Activate, 10*time.Minute)
	timeouts.Confirm = duration(timeouts.Confirm, 5*time.Minute)
	timeouts.Reboot = duration(timeouts.Reboot, 15*time.Minute)
	p.Timeouts = &timeouts

	rollback := value(p.Rollback)
	rollback.OnFailure = cmp.Or(rollback.OnFailure, RollbackRollback)
	rollback.OnStoreLost = cmp.Or(rollback.OnStoreLost, RollbackRollback)
	rollback.LastResort = cmp.Or(rollback.LastResort, LastResortNone)
	p.Rollback = &rollback

	p.DiskFull = cmp.Or(p.DiskFull, DiskFullReport)
	p.MinFreeDisk = cmp.Or(p.MinFreeDisk, new(2*meta.Gibibyte))
	retention := value(p.Retention)
	retention.Generations = cmp.Or(retention.Generations, new(int32(10)))
	p.Retention = &retention
	return p
}

// WithDefaults returns the checks with every default filled in; absent ones are
// the one that no unit fails that did not fail before.
func (h *HealthChecks) WithDefaults() HealthChecks {
	checks := value(h)
	checks.Settle = duration(checks.Settle, 30*time.Second)
	given := checks.Checks
	if given == nil {
		given = []HealthCheck{{Name: "units", Systemd: &SystemdCheck{Require: NoNewFailures}}}
	}
	checks.Checks = make([]HealthCheck, len(given))
	for i, c := range given {
		c.Timeout = duration(c.Timeout, 10*time.Second)
		c.Interval = duration(c.Interval, 5*time.Second)
		c.SuccessThreshold = cmp.Or(c.SuccessThreshold, new(int32(1)))
		checks.Checks[i] = c
	}
	return checks
}

func duration(d *meta.Duration, def time.Duration) *meta.Duration {
	return cmp.Or(d, &meta.Duration{Duration: def})
}

// value returns what p points at, or the zero value for nil.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
