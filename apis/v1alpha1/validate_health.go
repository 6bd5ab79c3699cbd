package v1alpha1

import (
	"net"
	"net/url"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (h *HealthChecks) validate(path *field.Path) field.ErrorList {
	if h == nil {
		return nil
	}
	errs := between(path.Child("settle"), h.Settle, 0, time.Hour)
	if h.Checks != nil && len(h.Checks) == 0 {
		errs = append(errs, field.Invalid(path.Child("checks"), "[]", "an empty list checks nothing; leave checks out for the default, units"))
	}
	seen := map[string]bool{}
	for i := range h.Checks {
		at, c := path.Child("checks").Index(i), &h.Checks[i]
		errs = append(errs, listName(at.Child("name"), c.Name, seen)...)
		errs = append(errs, c.validate(at)...)
	}
	return errs
}

func (c *HealthCheck) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	kinds := 0
	if c.Systemd != nil {
		kinds++
		if c.Systemd.Require != NoNewFailures {
			errs = append(errs, field.NotSupported(path.Child("systemd", "require"), c.Systemd.Require, []SystemdRequirement{NoNewFailures}))
		}
	}
	if c.HTTP != nil {
		kinds++
		errs = append(errs, validateURL(path.Child("http", "url"), c.HTTP.URL)...)
	}
	if c.TCP != nil {
		kinds++
		errs = append(errs, validateAddress(path.Child("tcp", "address"), c.TCP.Address)...)
	}
	if c.Exec != nil {
		kinds++
		at := path.Child("exec", "check")
		if c.Exec.Check == "" {
			errs = append(errs, field.Required(at, "the name of a command that the host's configuration defines"))
		} else {
			errs = append(errs, invalid(at, c.Exec.Check, validation.IsDNS1123Label(c.Exec.Check))...)
		}
	}
	if kinds != 1 {
		errs = append(errs, field.Invalid(path, c.Name, "needs exactly one of systemd, http, tcp and exec"))
	}
	errs = append(errs, between(path.Child("timeout"), c.Timeout, time.Millisecond, time.Hour)...)
	errs = append(errs, between(path.Child("interval"), c.Interval, time.Millisecond, time.Hour)...)
	if c.SuccessThreshold != nil {
		errs = append(errs, count(path.Child("successThreshold"), *c.SuccessThreshold, mostAttempts)...)
	}
	return errs
}

func validateURL(path *field.Path, s string) field.ErrorList {
	if s == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return field.ErrorList{field.Invalid(path, s, "must be an http or https URL")}
	}
	return nil
}

func validateAddress(path *field.Path, s string) field.ErrorList {
	if s == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || port == "" {
		return field.ErrorList{field.Invalid(path, s, `must be host:port, such as "127.0.0.1:22"`)}
	}
	return nil
}
