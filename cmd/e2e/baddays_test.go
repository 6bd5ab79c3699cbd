package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// badDay is one way in which things go wrong: what the person sees, and that
// all is well once the cause is gone.
type badDay struct {
	// cause makes it so, mend removes the cause.
	cause, mend func(s *site)
	// seen checks what the person sees in between.
	seen func(s *site)
}

// refused wants that apply refuses a file with a message.
func refused(name, data, message string) badDay {
	return badDay{
		cause: func(s *site) { s.write(name, data) },
		seen: func(s *site) {
			s.t.Helper()
			wantStderr(s, s.npcnix(3, "apply", "-f", "hosts"), message)
			wantStderr(s, s.npcnix(3, "validate", "-f", "hosts"), message)
			if _, err := os.Stat(filepath.Join(strings.TrimPrefix(s.store, "file://"), "hosts", "db-1.yaml")); !os.IsNotExist(err) {
				s.t.Errorf("something was written beside what was refused: %v", err)
			}
		},
		mend: func(s *site) {
			if err := os.RemoveAll(s.path("hosts")); err != nil {
				s.t.Fatal(err)
			}
			s.write("hosts/web-1.yaml", spec("web-1"))
			s.npcnix(0, "apply", "-f", "hosts")
		},
	}
}

func wantStderr(s *site, out output, message string) {
	s.t.Helper()
	if !strings.Contains(out.stderr, message) {
		s.t.Errorf("stderr does not say %q:\n%s", message, out.stderr)
	}
}

// stalled wants that the host says a reason and a message, with exit code 3.
func stalled(reason, message string) func(s *site) {
	return func(s *site) {
		s.t.Helper()
		s.agent(3, "web-1")
		s.want("web-1", "False", reason)
		s.wantMessage(message)
	}
}

// archives returns the files of all archives in a directory store.
func archives(s *site) []string {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(strings.TrimPrefix(s.store, "file://"), "archives", "*"))
	if err != nil || len(files) == 0 {
		s.t.Fatalf("archives: %v %v", files, err)
	}
	return files
}

func rewrite(s *site, change func(data []byte) []byte) {
	s.t.Helper()
	for _, file := range archives(s) {
		data, err := os.ReadFile(file)
		if err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(file, change(data), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

func pushAgain(s *site) { s.npcnix(0, "push", "flake", "--remote", "prod", "--force") }

func nothing(*site) {}

// switchByHand makes web-1 run a system that no remote declares.
func switchByHand(s *site) {
	s.t.Helper()
	link, target := s.path("web-1/run/current-system"), s.path("by-hand")
	if err := errors.Join(os.Mkdir(target, 0o750), os.WriteFile(filepath.Join(target, "init-interface-version"), []byte("systemd 2"), 0o600),
		os.Remove(link), os.Symlink(target, link)); err != nil {
		s.t.Fatal(err)
	}
}

func badDays() map[string]badDay {
	good := spec("web-1")
	mendHost := func(s *site) { s.publish("{ }") }
	var bomb strings.Builder // ten to the ninth
	bomb.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n")
	for i := range 9 {
		fmt.Fprintf(&bomb, "a%d: &a%d [*a%d%s]\n", i+1, i+1, i, strings.Repeat(fmt.Sprintf(",*a%d", i), 9))
	}
	return map[string]badDay{
		"unknown field": refused("hosts/web-1.yaml", good+"  remotte: prod\n",
			`hosts/web-1.yaml:7: spec.remotte: unknown field (did you mean "remote"?)`),
		"several faults, all told": refused("hosts/web-1.yaml", good+"  origin: Cloud\n  pollInterval: {min: 7d}\n  rebuildPolicy: {retry: {maxAttempts: many}}\n",
			"hosts/web-1.yaml:8: spec.pollInterval.min: \"7d\" is not a duration such as 90s, 15m or 168h\nhosts/web-1.yaml:9: spec.rebuildPolicy.retry.maxAttempts: expected an integer, found \"many\""),
		"duplicate field":    refused("hosts/web-1.yaml", good+"  remote: test\n", "hosts/web-1.yaml:7: spec.remote: field is there twice"),
		"wrong kind":         refused("hosts/web-1.yaml", strings.Replace(good, "HostSpec", "Deployment", 1), `hosts/web-1.yaml:1: kind: found "Deployment", expected HostSpec or HostOverride`),
		"name is not file's": refused("hosts/web-1.yaml", spec("web-2"), "hosts/web-1.yaml:1: metadata.name: is web-2, but the file is named for web-1"),
		"bad label":          refused("hosts/web-1.yaml", strings.Replace(good, "web-1}", "web-1, labels: {role: \"not good\"}}", 1), `hosts/web-1.yaml:3: metadata.labels[role]: Invalid value: "not good"`),
		"bad zone":           refused("hosts/web-1.yaml", good+"  maintenanceWindow: {timeZone: CEST}\n", `spec.maintenanceWindow.timeZone: Invalid value: "CEST": must be an IANA name of a place, such as Europe/Berlin, or UTC; abbreviations and fixed offsets know no summer time`),
		"empty file":         refused("hosts/web-1.yaml", "# nothing\n", "hosts/web-1.yaml: the file is empty"),
		"10 MB file":         refused("hosts/web-1.yaml", strings.Repeat("# 10 bytes\n", 1<<20), "hosts/web-1.yaml: larger than 256 KiB"),
		"YAML bomb":          refused("hosts/web-1.yaml", good+bomb.String(), "excessive aliasing"),
		"nested directory":   refused("hosts/more/web-1.yaml", good, "hosts/more: a directory of documents is flat"),
		"unquoted scalar":    refused("hosts/web-1.yaml", strings.Replace(good, "remote: prod", "remote: yes", 1), "hosts/web-1.yaml:5: spec.remote: expected a string (quote it), found true"),

		"spec that nobody applied": {
			cause: func(s *site) { s.npcnix(0, "delete", "host", "web-1") },
			seen:  stalled("SpecNotFound", "There is no hosts/web-1.yaml in the store."),
			mend:  func(s *site) { s.apply(good) },
		},
		"spec that was synced unseen": {
			cause: func(s *site) {
				s.write("bad", good+"  remotte: prod\n")
				if err := os.Rename(s.path("bad"), filepath.Join(strings.TrimPrefix(s.store, "file://"), "hosts", "web-1.yaml")); err != nil {
					s.t.Fatal(err)
				}
			},
			seen: stalled("SpecInvalid", `spec.remotte: unknown field (did you mean "remote"?)`),
			mend: func(s *site) { s.apply(good) },
		},
		"missing remote": {
			cause: func(s *site) { s.apply(strings.Replace(good, "remote: prod", "remote: other", 1)) },
			seen:  stalled("RemoteNotFound", "Remote other is not in the store. Publish it with npcnix push --remote other."),
			mend:  func(s *site) { s.npcnix(0, "push", "flake", "--remote", "other") },
		},
		"missing attribute": {
			cause: func(s *site) { s.apply(good + "  flakeAttribute: web-9\n") },
			seen:  stalled("AttributeNotFound", `The flake has no nixosConfigurations."web-9": error: flake '`),
			mend:  func(s *site) { s.apply(good) },
		},
		"evaluation error": {
			cause: func(s *site) { s.publish(`{ motd = throw "the sky is falling"; }`) },
			seen:  stalled("EvaluationFailed", "the sky is falling"),
			mend:  mendHost,
		},
		"syntax error": {
			cause: func(s *site) { s.publish("{ motd = ; }") },
			seen:  stalled("EvaluationFailed", "syntax error"),
			mend:  mendHost,
		},
		"build error": {
			cause: func(s *site) {
				s.publish(`{ build = "echo compiling >&2; echo no such header >&2; exit 7"; }`)
			},
			seen: func(s *site) {
				stalled("BuildFailed", "no such header")(s)
				s.wantMessage("exit code 7")
				s.wantMessage("Attempt 1 of 5")
			},
			mend: mendHost,
		},
		"build that takes too long": {
			cause: func(s *site) {
				s.apply(good + "  rebuildPolicy: {timeouts: {build: 1s}}\n")
				s.publish(`{ build = "exec sleep 600"; }`)
			},
			seen: stalled("BuildFailed", "the build took longer than its limit, 1s"),
			mend: func(s *site) {
				s.apply(good)
				mendHost(s)
			},
		},
		"input that cannot be fetched": {
			cause: func(s *site) {
				s.publish(`{ motd = builtins.readFile (builtins.fetchurl { url = "http://127.0.0.1:1/x"; sha256 = "0000000000000000000000000000000000000000000000000000"; }); }`)
			},
			seen: stalled("InputUnavailable", "unable to download"),
			mend: mendHost,
		},
		"activation that fails": {
			cause: func(s *site) { s.publish(`{ activation = "echo cannot mount >&2; exit 1"; }`) },
			seen: func(s *site) {
				stalled("Quarantined", "exit code 2, the activation script failed.")(s)
				s.wantMessage("cannot mount")
				s.wantMessage("runs again.")
			},
			mend: mendHost,
		},
		"switch that takes too long": {
			cause: func(s *site) {
				s.apply(good + "  rebuildPolicy: {timeouts: {activate: 1s}}\n")
				s.publish(`{ activation = "exec sleep 600"; }`)
			},
			seen: stalled("Quarantined", "it was stopped at its time limit"),
			mend: func(s *site) {
				s.apply(good)
				mendHost(s)
			},
		},
		"unit that fails": {
			cause: func(s *site) {
				s.apply(good + "  rebuildPolicy: {timeouts: {confirm: 1s}}\n")
				s.publish(`{ failedUnits = [ "nginx.service" ]; }`)
			},
			seen: stalled("Quarantined", "the switch ended with exit code 4: some unit failed"),
			mend: mendHost,
		},
		"system that wants a reboot": {
			cause: func(s *site) { s.publish(`{ initInterface = "systemd 3"; }`) },
			seen:  func(s *site) { s.agent(4, "web-1"); s.want("web-1", "False", "RebootPending") },
			mend:  mendHost,
		},
		"truncated archive": {
			cause: func(s *site) { publishNew(s); rewrite(s, func(d []byte) []byte { return d[:len(d)-1] }) },
			seen:  stalled("ArchiveInvalid", "bytes, the remote says"),
			mend:  pushAgain,
		},
		"altered archive": {
			cause: func(s *site) {
				publishNew(s)
				rewrite(s, func(d []byte) []byte { d = bytes.Clone(d); d[len(d)/2] ^= 1; return d })
			},
			seen: stalled("ArchiveInvalid", "has the digest"),
			mend: pushAgain,
		},
		"missing archive": {
			cause: func(s *site) {
				publishNew(s)
				for _, file := range archives(s) {
					if err := os.Remove(file); err != nil {
						s.t.Fatal(err)
					}
				}
			},
			seen: stalled("ArchiveNotFound", "push it again"),
			mend: pushAgain,
		},
		"origin that this version does not know": {
			cause: func(s *site) { s.apply(good + "  origin: Closure\n") },
			seen:  stalled("NotSupported", "does not support: spec.origin: Closure"),
			mend:  func(s *site) { s.apply(good) },
		},
		"switched by hand": {
			cause: func(s *site) { switchByHand(s) },
			seen: func(s *site) {
				s.agent(4, "web-1")
				s.want("web-1", "False", "Drifted")
				s.wantMessage("The host was changed by hand: it runs " + s.path("by-hand") + " instead of /nix/store/")
			},
			mend: func(s *site) { s.apply(good + "  rebuildPolicy: {drift: {grace: 0s}}\n") },
		},
		"switched by hand, and only reported": {
			cause: func(s *site) {
				s.apply(good + "  rebuildPolicy: {drift: {action: Report, grace: 0s}}\n")
				switchByHand(s)
			},
			seen: func(s *site) {
				s.agent(4, "web-1")
				s.want("web-1", "False", "Drifted")
				s.wantMessage("The policy is to report it only.")
			},
			mend: func(s *site) { s.apply(good + "  rebuildPolicy: {drift: {grace: 0s}}\n") },
		},
		"retries that are used up": {
			cause: func(s *site) {
				s.apply(good + "  rebuildPolicy: {retry: {maxAttempts: 2}}\n")
				s.publish(`{ build = "exit 7"; }`)
			},
			seen: func(s *site) {
				s.agent(3, "web-1")
				s.agent(3, "web-1")
				stalled("RetriesExhausted", "failed 2 of 2 times with this flake attribute and rebuildPolicy")(s)
			},
			mend: mendHost,
		},
		"suspended": {
			cause: func(s *site) {
				s.apply(good + "  suspend: {reason: INC-42}\n")
				mendHost(s)
			},
			seen: func(s *site) {
				s.publish(`{ motd = "later"; }`)
				s.agent(4, "web-1")
				s.want("web-1", "False", "Suspended")
				s.wantMessage("Suspended by its HostSpec (INC-42)")
			},
			mend: func(s *site) { s.apply(good) },
		},
		"store that is out of reach": {
			cause: nothing,
			seen: func(s *site) {
				url := "s3://bucket/x?region=eu-test-1&endpoint=http://127.0.0.1:1&pathStyle=true"
				wantStderr(s, s.agent(1, "web-1", "--store", url), "connection refused")
				wantStderr(s, s.npcnix(1, "--store", url, "get", "hosts"), "connection refused")
			},
			mend: nothing,
		},
		"wrong credentials": {
			cause: func(s *site) { s.env = append(s.env, "AWS_SECRET_ACCESS_KEY=wrong-secret-value") },
			seen: func(s *site) {
				url := stores(s.t)["S3"](s.t)
				for _, out := range []output{
					s.agent(1, "web-1", "--store", url),
					s.npcnix(1, "--store", url, "get", "hosts"),
					s.npcnix(1, "--store", url, "push", "flake", "--remote", "prod"),
				} {
					wantStderr(s, out, "credentials are not valid")
					if strings.Contains(out.stderr, "wrong-secret-value") {
						s.t.Errorf("the secret is printed: %s", out.stderr)
					}
				}
			},
			mend: func(s *site) { s.env = append(s.env, server.Env()...) },
		},
		"missing bucket": {
			cause: nothing,
			seen: func(s *site) {
				wantStderr(s, s.agent(1, "web-1", "--store", server.URL("nowhere", "")), "bucket not found: nowhere")
				wantStderr(s, s.npcnix(1, "--store", server.URL("nowhere", ""), "get", "hosts"), "bucket not found: nowhere")
				wantStderr(s, s.npcnix(1, "--store", server.URL("nowhere", ""), "push", "flake", "--remote", "prod"), "bucket not found: nowhere")
			},
			mend: nothing,
		},
		"credentials in the URL": {
			cause: nothing,
			seen: func(s *site) {
				out := s.npcnix(2, "--store", "s3://AKIAEXAMPLE:hunter2@bucket/", "get", "hosts")
				wantStderr(s, out, "must not hold credentials")
				if strings.Contains(out.stderr, "hunter2") {
					s.t.Errorf("the secret is printed: %s", out.stderr)
				}
			},
			mend: nothing,
		},
	}
}

// publishNew publishes another tree, so that there is something to fetch.
func publishNew(s *site) { s.publish(`{ motd = "new"; }`) }

func TestBadDays(t *testing.T) {
	t.Parallel()
	for name, day := range badDays() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "file://"+filepath.Join(t.TempDir(), "store"))
			s.npcnix(0, "push", "flake", "--remote", "prod")
			s.apply(spec("web-1"))
			s.agent(0, "web-1")
			day.cause(s)
			day.seen(s)
			day.mend(s)
			s.agent(0, "web-1")
			s.want("web-1", "True", "UpToDate")
		})
	}
}
