package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	validator "github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/npcnix/npcnix/apis/codec"
	"github.com/npcnix/npcnix/apis/v1alpha1"
)

const published = "../../apis/v1alpha1/schemas"

func TestSchemasAreFresh(t *testing.T) {
	t.Parallel()
	files, err := Generate("../..")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(published, name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what the types say (%v); run make schemas", name, err)
		}
	}
	there, err := os.ReadDir(published)
	if err != nil || len(there) != len(files) {
		t.Errorf("%d files of %d, %v", len(there), len(files), err)
	}
}

// judge asks Go and the schema about a document.
func judge(t *testing.T, data []byte) (inGo, inSchema error) {
	t.Helper()
	kind := struct{ Kind string }{}
	if err := yaml.Unmarshal(data, &kind); err != nil {
		t.Fatal(err)
	}
	doc := codec.Document{Source: "corpus", Raw: data}
	switch kind.Kind {
	case v1alpha1.KindHostSpec:
		_, inGo = codec.DecodeStrict[v1alpha1.HostSpec](doc, kind.Kind)
	case v1alpha1.KindHostOverride:
		_, inGo = codec.DecodeStrict[v1alpha1.HostOverride](doc, kind.Kind)
	case v1alpha1.KindRemote:
		_, inGo = codec.DecodeStrict[v1alpha1.Remote](doc, kind.Kind)
	case v1alpha1.KindHostStatus:
		_, inGo = codec.DecodeStrict[v1alpha1.HostStatus](doc, kind.Kind)
	default:
		t.Fatalf("kind %q", kind.Kind)
	}
	s, err := validator.NewCompiler().Compile(filepath.Join(published, strings.ToLower(kind.Kind)+".json"))
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := yaml.YAMLToJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	value, err := validator.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	return inGo, s.Validate(value)
}

func TestExamplesAreAccepted(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"documents/*.yaml", "hosts/*.yaml"} {
		files, err := filepath.Glob("../../examples/" + pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%v %v", files, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if inGo, inSchema := judge(t, data); inGo != nil || inSchema != nil {
				t.Errorf("%s: %v, %v", file, inGo, inSchema)
			}
		}
	}
}

// change makes a document out of an example by a merge patch.
func change(t *testing.T, kind, patch string) []byte {
	t.Helper()
	base, err := os.ReadFile("../../examples/documents/" + kind + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	var document, changes map[string]any
	if err := yaml.Unmarshal(base, &document); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(patch), &changes); err != nil {
		t.Fatal(err)
	}
	mergeInto(document, changes)
	data, err := yaml.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// mergeInto changes a tree; the word DELETE takes a field away.
func mergeInto(document, changes map[string]any) {
	for k, v := range changes {
		below, isMap := v.(map[string]any)
		there, wasMap := document[k].(map[string]any)
		switch {
		case v == "DELETE":
			delete(document, k)
		case isMap && wasMap:
			mergeInto(there, below)
		default:
			document[k] = v
		}
	}
}

// What a document may be, by the change that makes it of the example.
func TestSchemasJudgeAsValidationDoes(t *testing.T) {
	t.Parallel()
	for _, c := range corpus() {
		data := change(t, c.kind, c.patch)
		inGo, inSchema := judge(t, data)
		if (inGo == nil) != c.good {
			t.Errorf("%s %s: validation says %v", c.kind, c.patch, inGo)
		}
		switch {
		case c.beyond && (inSchema != nil || c.good):
			t.Errorf("%s %s: the schema can tell, take it from the list of what it cannot: %v", c.kind, c.patch, inSchema)
		case !c.beyond && (inSchema == nil) != (inGo == nil):
			t.Errorf("%s %s: validation says %v, the schema %v", c.kind, c.patch, inGo, inSchema)
		}
	}
}

// An overlay adds a health check and a window, and changes those that are there.
func TestOverlaysAddToLists(t *testing.T) {
	t.Parallel()
	files := filesys.MakeFsInMemory()
	openapi, err := os.ReadFile(filepath.Join(published, "openapi.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"openapi.json": string(openapi),
		"kustomization.yaml": `
resources: [web.yaml]
openapi: {path: openapi.json}
patches:
  - patch: |
      apiVersion: npcnix.dev/v1alpha1
      kind: HostSpec
      metadata: {name: web}
      spec:
        maintenanceWindow:
          allow: [{name: sundays, days: [Sun], start: "03:00", duration: 1h}]
        healthChecks:
          checks:
            - {name: ssh, tcp: {address: "127.0.0.1:22"}}
            - {name: web, timeout: 9s}
`,
		"web.yaml": `
apiVersion: npcnix.dev/v1alpha1
kind: HostSpec
metadata: {name: web}
spec:
  remote: prod
  maintenanceWindow:
    timeZone: UTC
    allow: [{name: nights, start: "22:00", duration: 6h}]
  healthChecks:
    checks:
      - {name: units, systemd: {require: NoNewFailures}}
      - {name: web, http: {url: "http://127.0.0.1/"}, timeout: 5s}
`,
	} {
		if err := files.WriteFile(name, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, ".")
	if err != nil {
		t.Fatal(err)
	}
	out, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := codec.DecodeStrict[v1alpha1.HostSpec](codec.Document{Source: "built", Raw: out}, v1alpha1.KindHostSpec)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var checks, windows []string
	for _, c := range spec.Spec.HealthChecks.Checks {
		checks = append(checks, c.Name)
		if c.Name == "web" && (c.HTTP == nil || c.Timeout.String() != "9s") {
			t.Errorf("the check web is %+v", c)
		}
	}
	for _, w := range spec.Spec.MaintenanceWindow.Allow {
		windows = append(windows, w.Name)
	}
	if len(checks) != 3 || len(windows) != 2 {
		t.Errorf("checks %v, windows %v\n%s", checks, windows, out)
	}
}
