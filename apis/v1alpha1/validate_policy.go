package v1alpha1

import (
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Greatest values of a policy's durations and numbers.
const (
	longest      = 7 * 24 * time.Hour
	mostAttempts = 1000
	mostKept     = 1000
)

func (p *RebuildPolicy) validate(path *field.Path, host string) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := oneOf(path.Child("mode"), p.Mode, ModeSwitch, ModeBoot, ModeTest, ModeBuild, ModeDryActivate)
	errs = append(errs, p.Drift.validate(path.Child("drift"))...)
	errs = append(errs, p.Reboot.validate(path.Child("reboot"))...)
	errs = append(errs, p.Retry.validate(path.Child("retry"))...)
	errs = append(errs, p.Timeouts.validate(path.Child("timeouts"))...)
	errs = append(errs, p.Rollback.validate(path.Child("rollback"))...)
	errs = append(errs, oneOf(path.Child("diskFull"), p.DiskFull, DiskFullReport, DiskFullGarbageCollect)...)
	if p.Retention != nil && p.Retention.Generations != nil {
		errs = append(errs, count(path.Child("retention", "generations"), *p.Retention.Generations, mostKept)...)
	}
	if p.AllowAgentRemoval != "" && p.AllowAgentRemoval != host {
		errs = append(errs, field.Invalid(path.Child("allowAgentRemoval"), p.AllowAgentRemoval, "must be the host's own name, "+host))
	}
	return errs
}

func (d *DriftPolicy) validate(path *field.Path) field.ErrorList {
	if d == nil {
		return nil
	}
	errs := oneOf(path.Child("action"), d.Action, DriftCorrect, DriftReport)
	return append(errs, between(path.Child("grace"), d.Grace, 0, longest)...)
}

func (r *RebootPolicy) validate(path *field.Path) field.ErrorList {
	if r == nil {
		return nil
	}
	errs := oneOf(path.Child("when"), r.When, RebootNever, RebootIfRequired, RebootAlways)
	errs = append(errs, between(path.Child("delay"), r.Delay, 0, longest)...)
	if r.Sessions != nil {
		errs = append(errs, between(path.Child("sessions", "postpone"), r.Sessions.Postpone, 0, longest)...)
	}
	return errs
}

func (r *RetryPolicy) validate(path *field.Path) field.ErrorList {
	if r == nil {
		return nil
	}
	errs := between(path.Child("minBackoff"), r.MinBackoff, time.Second, longest)
	errs = append(errs, between(path.Child("maxBackoff"), r.MaxBackoff, time.Second, longest)...)
	if r.MaxAttempts != nil {
		errs = append(errs, count(path.Child("maxAttempts"), *r.MaxAttempts, mostAttempts)...)
	}
	filled := RebuildPolicy{Retry: r}.WithDefaults().Retry
	if filled.MinBackoff.Duration > filled.MaxBackoff.Duration {
		errs = append(errs, field.Invalid(path, filled.MinBackoff.String(), "minBackoff is longer than maxBackoff, "+filled.MaxBackoff.String()))
	}
	return errs
}

func (t *Timeouts) validate(path *field.Path) field.ErrorList {
	if t == nil {
		return nil
	}
	errs := between(path.Child("build"), t.Build, time.Second, longest)
	errs = append(errs, between(path.Child("activate"), t.Activate, time.Second, longest)...)
	errs = append(errs, between(path.Child("confirm"), t.Confirm, time.Second, longest)...)
	return append(errs, between(path.Child("reboot"), t.Reboot, time.Second, longest)...)
}

func (r *RollbackPolicy) validate(path *field.Path) field.ErrorList {
	if r == nil {
		return nil
	}
	errs := oneOf(path.Child("onFailure"), r.OnFailure, RollbackRollback, RollbackKeep)
	errs = append(errs, oneOf(path.Child("onStoreLost"), r.OnStoreLost, RollbackRollback, RollbackKeep)...)
	return append(errs, oneOf(path.Child("lastResort"), r.LastResort, LastResortNone, LastResortReboot)...)
}

func count(path *field.Path, n, most int32) field.ErrorList {
	if n >= 1 && n <= most {
		return nil
	}
	return field.ErrorList{field.Invalid(path, n, "must be from 1 to 1000")}
}
