package main

import (
	"slices"

	"github.com/npcnix/npcnix/apis/v1alpha1"
)

// rule is what validation says of the field at a path, and a type does not.
type rule func(s schema, path string)

const (
	label      = `[a-z0-9]([-a-z0-9]*[a-z0-9])?`
	subdomain  = label + `(\.` + label + `)*`
	qualified  = `([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)`
	labelKey   = `^(` + subdomain + `/)?` + qualified + `$`
	labelValue = `^(` + qualified + `)?$`
	digest     = `sha256:[0-9a-f]{64}`
)

// matches wants a string of that form; an optional one may be empty.
func matches(pattern string, most int) rule {
	return func(s schema, path string) {
		p := property(s, path)
		p["pattern"], p["maxLength"] = "^("+pattern+")$", most
	}
}

func optional(pattern string, most int) rule { return matches("|"+pattern, most) }

func atLeast(n, most int) rule {
	return func(s schema, path string) {
		p := property(s, path)
		p["minimum"] = n
		if most > 0 {
			p["maximum"] = most
		}
	}
}

// oneOf wants one of the values; an optional field may be empty.
func oneOf[T ~string](values ...T) rule {
	return func(s schema, path string) {
		list := []any{""}
		for _, v := range values {
			list = append(list, string(v))
		}
		property(s, path)["enum"] = list
	}
}

func notEmpty(s schema, path string) { property(s, path)["minItems"] = 1 }

func forbidden(s schema, path string) {
	p := property(s, path)
	clear(p)
	p["enum"] = []any{0, nil} // only a Remote has it
}

// unrequire makes fields optional that are always written.
func unrequire(names ...string) rule {
	return func(s schema, path string) {
		p := property(s, path)
		required, _ := p["required"].([]any)
		p["required"] = slices.DeleteFunc(required, func(v any) bool { return slices.Contains(names, v.(string)) })
	}
}

// lenient requires nothing below the field: programs write it, and older ones
// wrote less.
func lenient(s schema, path string) {
	var loosen func(s schema)
	loosen = func(s schema) {
		delete(s, "required")
		if properties, ok := s["properties"].(schema); ok {
			for _, v := range properties {
				loosen(v.(schema))
			}
		}
		if items, ok := s["items"].(schema); ok {
			loosen(items)
		}
	}
	loosen(property(s, path))
	s["required"] = slices.DeleteFunc(s["required"].([]any), func(v any) bool { return v == path })
}

// days are a set, and not empty.
func days(s schema, path string) {
	p := property(s, path)
	p["minItems"], p["uniqueItems"] = 1, true
}

// present wants fields of an object, each either way.
func present(names ...string) schema {
	required, properties := make([]any, len(names)), schema{}
	for i, name := range names {
		required[i] = name
		properties[name] = schema{"not": schema{"enum": []any{nil, ""}}}
	}
	return schema{"required": required, "properties": properties}
}

func absent(names ...string) schema {
	properties := schema{}
	for _, name := range names {
		properties[name] = schema{"enum": []any{nil, ""}}
	}
	return schema{"properties": properties}
}

func commonRules(kind string) map[string]rule {
	name := matches(subdomain, 253)
	if kind == v1alpha1.KindRemote {
		name = matches(label, 63)
	}
	return map[string]rule{
		"metadata.name": name,
		"metadata.labels": func(s schema, path string) {
			p := property(s, path)
			p["propertyNames"] = schema{"pattern": labelKey}
			p["additionalProperties"] = schema{"type": []any{"string", "null"}, "pattern": labelValue, "maxLength": 63}
		},
		"metadata.annotations": func(s schema, path string) {
			p := property(s, path)
			p["propertyNames"] = schema{"pattern": `^([A-Za-z0-9.-]+/)?` + qualified + `$`}
			p["additionalProperties"] = schema{"type": []any{"string", "null"}}
		},
	}
}

func hostSpecRules() map[string]rule {
	entry := func(s schema, path string) {
		p := property(s, path)
		p["oneOf"] = []any{
			merge(present("start", "duration"), absent("from", "until")),
			merge(present("from", "until"), schema{"properties": schema{
				"days": schema{"enum": []any{nil}}, "start": schema{"enum": []any{nil, ""}}, "duration": schema{"enum": []any{nil}},
			}}),
		}
	}
	day := oneOf("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
	rules := map[string]rule{
		"metadata.generation":                         forbidden,
		"spec.remote":                                 matches(label, 63),
		"spec.flakeAttribute":                         optional(`[A-Za-z0-9_][A-Za-z0-9_'-]{0,127}`, 128),
		"spec.origin":                                 oneOf(v1alpha1.OriginAuto, v1alpha1.OriginFlake, v1alpha1.OriginClosure),
		"spec.maintenanceWindow.timeZone":             matches(`UTC|[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)+`, 64),
		"spec.maintenanceWindow.allow":                notEmpty,
		"spec.maintenanceWindow.gates":                notEmpty,
		"spec.maintenanceWindow.gates[]":              only(oneOf(v1alpha1.GateBuild, v1alpha1.GateActivate, v1alpha1.GateReboot)),
		"spec.rebuildPolicy.mode":                     oneOf(v1alpha1.ModeSwitch, v1alpha1.ModeBoot, v1alpha1.ModeTest, v1alpha1.ModeBuild, v1alpha1.ModeDryActivate),
		"spec.rebuildPolicy.drift.action":             oneOf(v1alpha1.DriftCorrect, v1alpha1.DriftReport),
		"spec.rebuildPolicy.reboot.when":              oneOf(v1alpha1.RebootNever, v1alpha1.RebootIfRequired, v1alpha1.RebootAlways),
		"spec.rebuildPolicy.retry.maxAttempts":        atLeast(1, 1000),
		"spec.rebuildPolicy.rollback.onFailure":       oneOf(v1alpha1.RollbackRollback, v1alpha1.RollbackKeep),
		"spec.rebuildPolicy.rollback.onStoreLost":     oneOf(v1alpha1.RollbackRollback, v1alpha1.RollbackKeep),
		"spec.rebuildPolicy.rollback.lastResort":      oneOf(v1alpha1.LastResortNone, v1alpha1.LastResortReboot),
		"spec.rebuildPolicy.diskFull":                 oneOf(v1alpha1.DiskFullReport, v1alpha1.DiskFullGarbageCollect),
		"spec.rebuildPolicy.retention.generations":    atLeast(1, 1000),
		"spec.healthChecks.checks":                    notEmpty,
		"spec.healthChecks.checks[].name":             matches(label, 63),
		"spec.healthChecks.checks[].successThreshold": atLeast(1, 1000),
		"spec.healthChecks.checks[].systemd.require":  only(oneOf(v1alpha1.NoNewFailures)),
		"spec.healthChecks.checks[].http.url":         matches(`https?://[^/].*`, 2048),
		"spec.healthChecks.checks[].tcp.address":      matches(`.+:.+`, 300),
		"spec.healthChecks.checks[].exec.check":       matches(label, 63),
		"spec.healthChecks.checks[]": func(s schema, path string) {
			kinds := []string{"systemd", "http", "tcp", "exec"}
			var cases []any
			for i, kind := range kinds {
				others := slices.Delete(slices.Clone(kinds), i, i+1)
				cases = append(cases, merge(present(kind), absentObjects(others...)))
			}
			property(s, path)["oneOf"] = cases
		},
	}
	for _, list := range []string{"spec.maintenanceWindow.allow[]", "spec.maintenanceWindow.deny[]"} {
		rules[list] = entry
		rules[list+".name"] = matches(label, 63)
		rules[list+".days"] = days
		rules[list+".days[]"] = only(day)
		rules[list+".start"] = optional(`([01][0-9]|2[0-3]):[0-5][0-9]`, 5)
		rules[list+".from"] = optional(`[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}`, 19)
		rules[list+".until"] = rules[list+".from"]
	}
	return rules
}

func hostOverrideRules() map[string]rule {
	return map[string]rule{"metadata.generation": forbidden, "spec": lenient}
}

func hostStatusRules() map[string]rule {
	return map[string]rule{"status": lenient}
}

func remoteRules() map[string]rule {
	return map[string]rule{
		"metadata.generation": func(s schema, path string) {
			atLeast(1, 0)(s, path)
			p := property(s, "metadata")
			p["required"] = append(p["required"].([]any), "generation")
		},
		"spec.archive.digest":  matches(digest, 71),
		"spec.archive.size":    atLeast(1, 0),
		"spec.archive.narHash": optional(`sha256-[A-Za-z0-9+/]{43}=`, 51),
		"spec.closures.digest": matches(digest, 71),
		"spec.closures":        unrequire("size"),
		"spec.source":          unrequire("dirty"),
		"spec.promotedFrom":    unrequire("remote", "generation"),
	}
}

// only takes the empty value out: the field is required, or in a list.
func only(r rule) rule {
	return func(s schema, path string) {
		r(s, path)
		p := property(s, path)
		p["enum"] = slices.DeleteFunc(p["enum"].([]any), func(v any) bool { return v == "" })
	}
}

func absentObjects(names ...string) schema {
	properties := schema{}
	for _, name := range names {
		properties[name] = schema{"enum": []any{nil}}
	}
	return schema{"properties": properties}
}

// merge joins two parts of a schema for the same object.
func merge(a, b schema) schema {
	properties := schema{}
	for _, s := range []schema{a, b} {
		if p, ok := s["properties"].(schema); ok {
			for k, v := range p {
				properties[k] = v
			}
		}
	}
	return schema{"required": a["required"], "properties": properties}
}
