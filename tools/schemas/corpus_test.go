package main

// example is a change of an example and what is to be said of it. What is
// beyond a schema is refused by validation alone: comparisons of two values,
// ranges of durations, names that are unique in their list, dates and zones
// that exist.
type example struct {
	kind, patch  string
	good, beyond bool
}

func good(kind string, patches ...string) (list []example) {
	for _, p := range patches {
		list = append(list, example{kind: kind, patch: p, good: true})
	}
	return list
}

func bad(kind string, patches ...string) (list []example) {
	for _, p := range patches {
		list = append(list, example{kind: kind, patch: p})
	}
	return list
}

func beyond(kind string, patches ...string) (list []example) {
	for _, p := range patches {
		list = append(list, example{kind: kind, patch: p, beyond: true})
	}
	return list
}

func corpus() (list []example) {
	for _, part := range [][]example{
		good("hostspec",
			"{}", "spec: {suspend: null, healthChecks: null, maintenanceWindow: null, rebuildPolicy: null}", "spec: {flakeAttribute: null}", `spec: {flakeAttribute: "a'b-c_9"}`,
			"spec: {origin: null}", "spec: {origin: Flake}", "spec: {pollInterval: {min: 1s, max: 24h}}", "spec: {pollInterval: {min: 1.5s}}", "spec: {pollInterval: {max: 1h30m}}",
			"spec: {suspend: {}}", "spec: {suspend: {until: '2026-12-01T00:00:00+01:00'}}", "spec: {suspend: {until: '2026-12-01T00:00:00.5Z'}}",
			"spec: {maintenanceWindow: {timeZone: UTC, allow: null, deny: []}}", "spec: {maintenanceWindow: {timeZone: America/Argentina/Buenos_Aires}}",
			"spec: {maintenanceWindow: {allow: [{name: a, start: '23:59', duration: 5m}]}}", "spec: {maintenanceWindow: {allow: [{name: a, days: [Sun, Mon], start: '00:00', duration: 168h}]}}",
			"spec: {maintenanceWindow: {deny: [{name: a, from: '2026-12-20T00:00:00', until: '2027-01-04T00:00:00'}]}}", "spec: {maintenanceWindow: {gates: [Build]}}",
			"spec: {rebuildPolicy: {mode: DryActivate, diskFull: GarbageCollect, minFreeDisk: 0B}}", "spec: {rebuildPolicy: {minFreeDisk: 512MiB}}",
			"spec: {rebuildPolicy: {drift: {action: Report, grace: 0s}}}", "spec: {rebuildPolicy: {retry: {maxAttempts: 1000}}}", "spec: {rebuildPolicy: {retention: {generations: 1}}}",
			"spec: {healthChecks: {checks: null}}", "spec: {healthChecks: {checks: [{name: a, tcp: {address: 'localhost:22'}, http: null}]}}",
			"spec: {healthChecks: {checks: [{name: a, exec: {check: pg}, successThreshold: 3}]}}", "metadata: {labels: {example.org/role: web, empty: ''}}", "metadata: {annotations: {a/B: 'anything at all'}}",
			"metadata: {name: web.example.org}\nspec: {rebuildPolicy: {allowAgentRemoval: DELETE}}"),
		bad("hostspec",
			"apiVersion: npcnix.dev/v1", "metadata: {name: DELETE}", "metadata: {name: ''}", "metadata: {name: Web}", "metadata: {name: -web}", "metadata: {name: web_1}", "metadata: {generation: 3}",
			"metadata: {labels: {'a b': c}}", "metadata: {labels: {a: 'b c'}}", "metadata: {labels: {a: 1}}", "metadata: {labels: [a]}", "metadata: DELETE", "spec: DELETE", "spec: []", "unknown: 1",
			"spec: {unknown: 1}", "spec: {remote: DELETE}", "spec: {remote: ''}", "spec: {remote: a.b}", "spec: {remote: 7}", "spec: {flakeAttribute: -x}", "spec: {flakeAttribute: 'a.b'}",
			"spec: {origin: auto}", "spec: {origin: 1}", "spec: {pollInterval: {min: 5}}", "spec: {pollInterval: {min: 7d}}", "spec: {pollInterval: {min: ''}}", "spec: {pollInterval: 5s}",
			"spec: {suspend: true}", "spec: {suspend: {until: tomorrow}}", "spec: {suspend: {until: '2026-12-01'}}",
			"spec: {maintenanceWindow: {timeZone: DELETE}}", "spec: {maintenanceWindow: {timeZone: ''}}", "spec: {maintenanceWindow: {timeZone: CET}}", "spec: {maintenanceWindow: {timeZone: Local}}", "spec: {maintenanceWindow: {timeZone: '+01:00'}}",
			"spec: {maintenanceWindow: {allow: []}}", "spec: {maintenanceWindow: {gates: []}}", "spec: {maintenanceWindow: {gates: [Switch]}}", "spec: {maintenanceWindow: {gates: ['']}}",
			"spec: {maintenanceWindow: {allow: [{name: a}]}}", "spec: {maintenanceWindow: {allow: [{start: '22:00', duration: 1h}]}}", "spec: {maintenanceWindow: {allow: [{name: a, start: '24:00', duration: 1h}]}}",
			"spec: {maintenanceWindow: {allow: [{name: a, start: '22:00'}]}}", "spec: {maintenanceWindow: {allow: [{name: a, days: [Monday], start: '22:00', duration: 1h}]}}",
			"spec: {maintenanceWindow: {allow: [{name: a, days: [], start: '22:00', duration: 1h}]}}", "spec: {maintenanceWindow: {allow: [{name: a, days: [Mon, Mon], start: '22:00', duration: 1h}]}}",
			"spec: {maintenanceWindow: {deny: [{name: a, from: '2026-12-20T00:00:00'}]}}", "spec: {maintenanceWindow: {deny: [{name: a, from: '2026-12-20T00:00:00Z', until: '2027-01-04T00:00:00'}]}}",
			"spec: {maintenanceWindow: {deny: [{name: a, days: [Mon], from: '2026-12-20T00:00:00', until: '2027-01-04T00:00:00'}]}}", "spec: {maintenanceWindow: {deny: [{name: A, start: '22:00', duration: 1h}]}}",
			"spec: {rebuildPolicy: {mode: switch}}", "spec: {rebuildPolicy: {minFreeDisk: 2}}", "spec: {rebuildPolicy: {minFreeDisk: 2GB}}", "spec: {rebuildPolicy: {minFreeDisk: 1.5GiB}}", "spec: {rebuildPolicy: {retry: {maxAttempts: 0}}}",
			"spec: {rebuildPolicy: {retry: {maxAttempts: 1001}}}", "spec: {rebuildPolicy: {retry: {maxAttempts: '5'}}}", "spec: {rebuildPolicy: {retry: {maxAttempts: 1.5}}}", "spec: {rebuildPolicy: {reboot: {when: Sometimes}}}",
			"spec: {rebuildPolicy: {rollback: {lastResort: Rollback}}}", "spec: {rebuildPolicy: {retention: {generations: -1}}}", "spec: {rebuildPolicy: {timeouts: {build: two hours}}}", "spec: {rebuildPolicy: {timeouts: {buildd: 1h}}}",
			"spec: {healthChecks: {checks: []}}", "spec: {healthChecks: {checks: [{name: a}]}}", "spec: {healthChecks: {checks: [{tcp: {address: 'a:1'}}]}}", "spec: {healthChecks: {checks: [{name: a, tcp: {address: 'a:1'}, exec: {check: b}}]}}",
			"spec: {healthChecks: {checks: [{name: a, tcp: {}}]}}", "spec: {healthChecks: {checks: [{name: a, tcp: {address: a}}]}}", "spec: {healthChecks: {checks: [{name: a, http: {url: 'ftp://a'}}]}}", "spec: {healthChecks: {checks: [{name: a, http: {url: '/a'}}]}}",
			"spec: {healthChecks: {checks: [{name: a, systemd: {require: Everything}}]}}", "spec: {healthChecks: {checks: [{name: a, systemd: {}}]}}", "spec: {healthChecks: {checks: [{name: a, exec: {check: 'rm -rf'}}]}}", "spec: {healthChecks: {checks: [{name: a, exec: {check: pg}, successThreshold: 0}]}}"),
		beyond("hostspec",
			"spec: {pollInterval: {min: 0s}}", "spec: {pollInterval: {min: 25h, max: 26h}}", "spec: {pollInterval: {min: 2h, max: 1h}}", "spec: {maintenanceWindow: {timeZone: Europe/Atlantis}}", "spec: {maintenanceWindow: {timeZone: Etc/GMT+1}}",
			"spec: {maintenanceWindow: {allow: [{name: a, start: '22:00', duration: 1h}, {name: a, start: '23:00', duration: 1h}]}}", "spec: {maintenanceWindow: {allow: [{name: a, start: '22:00', duration: 1m}]}}",
			"spec: {maintenanceWindow: {deny: [{name: a, from: '2026-12-20T00:00:00', until: '2026-12-19T00:00:00'}]}}", "spec: {maintenanceWindow: {deny: [{name: a, from: '2026-02-30T00:00:00', until: '2026-12-19T00:00:00'}]}}",
			"spec: {rebuildPolicy: {retry: {minBackoff: 2h, maxBackoff: 1h}}}", "spec: {rebuildPolicy: {timeouts: {build: 1000h}}}", "spec: {rebuildPolicy: {allowAgentRemoval: another}}", "spec: {rebuildPolicy: {minFreeDisk: 99999999999999GiB}}",
			"spec: {healthChecks: {checks: [{name: a, exec: {check: b}}, {name: a, exec: {check: c}}]}}", "spec: {suspend: {until: '2026-13-01T00:00:00Z'}}"),
		good("hostoverride", "{}", "spec: {suspend: null}", "spec: {openWindowUntil: null}", "spec: DELETE"),
		bad("hostoverride", "spec: {suspended: true}", "spec: {reconcileRequestedAt: now}", "metadata: {generation: 1}"),
		good("remote", "{}", "spec: {source: null}", "spec: {closures: null}", "spec: {archive: {narHash: null}}", "metadata: {generation: 4000000000}"),
		bad("remote", "metadata: {generation: 0}", "metadata: {generation: DELETE}", "metadata: {name: a.b}", "spec: {publishedAt: DELETE}", "spec: {archive: DELETE}", "spec: {archive: {digest: DELETE}}", "spec: {archive: {digest: 'sha256:12'}}",
			"spec: {archive: {digest: 'md5:12'}}", "spec: {archive: {size: 0}}", "spec: {archive: {size: DELETE}}", "spec: {archive: {narHash: sha256-x}}", "spec: {closures: {digest: x, size: 1}}", "spec: {extra: 1}"),
		good("hoststatus", "{}", "status: {history: []}"),
		bad("hoststatus", "status: {history: 1}", "status: {extra: 1}", "metadata: {name: ''}"),
	} {
		list = append(list, part...)
	}
	return list
}
