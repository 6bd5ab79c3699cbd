package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"

	"github.com/npcnix/npcnix/apis/meta"
	"github.com/npcnix/npcnix/apis/v1alpha1"
)

const module = "github.com/npcnix/npcnix"

// schema is a JSON Schema, or a part of one.
type schema = map[string]any

// kinds are the documents, and what their schemas say beyond their types.
var kinds = []struct {
	name   string
	object any
	rules  map[string]rule
}{
	{v1alpha1.KindHostSpec, v1alpha1.HostSpec{}, hostSpecRules()},
	{v1alpha1.KindHostOverride, v1alpha1.HostOverride{}, hostOverrideRules()},
	{v1alpha1.KindRemote, v1alpha1.Remote{}, remoteRules()},
	{v1alpha1.KindHostStatus, v1alpha1.HostStatus{}, hostStatusRules()},
}

// Generate returns the files by their names. root is the product's directory,
// whose comments become descriptions.
func Generate(root string) (map[string][]byte, error) {
	files := map[string][]byte{}
	definitions := schema{}
	for _, k := range kinds {
		s, err := reflectKind(root, k.object)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		definition, err := clone(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k.name, err)
		}
		definition["x-kubernetes-group-version-kind"] = []any{schema{"group": "npcnix.dev", "version": "v1alpha1", "kind": k.name}}
		if k.name == v1alpha1.KindHostSpec {
			mergeByName(definition, "spec.healthChecks.checks", "spec.maintenanceWindow.allow", "spec.maintenanceWindow.deny")
		}
		definitions["dev.npcnix.v1alpha1."+k.name] = plain(definition)

		s["$schema"], s["title"] = "https://json-schema.org/draft/2020-12/schema", k.name
		property(s, "apiVersion")["const"], property(s, "kind")["const"] = v1alpha1.APIVersion, k.name
		for path, change := range maps.All(commonRules(k.name)) {
			change(s, path)
		}
		for _, path := range slices.Sorted(maps.Keys(k.rules)) {
			k.rules[path](s, path)
		}
		optionalIsNullable(s)
		if files[strings.ToLower(k.name)+".json"], err = encode(s); err != nil {
			return nil, err
		}
	}
	openapi, err := encode(schema{"definitions": definitions})
	files["openapi.json"] = openapi
	return files, err
}

func reflectKind(root string, object any) (schema, error) {
	r := jsonschema.Reflector{DoNotReference: true, Anonymous: true, Mapper: scalar}
	for _, dir := range []string{"apis/v1alpha1", "apis/meta"} {
		if err := r.AddGoComments(module, filepath.Join(root, dir)); err != nil {
			return nil, fmt.Errorf("read comments: %w", err)
		}
	}
	comments := map[string]string{} // the reflector names packages by their directories
	for name, text := range r.CommentMap {
		if _, rest, ok := strings.Cut(name, "/apis/"); ok {
			comments[module+"/apis/"+rest] = text
		}
	}
	r.CommentMap = comments
	data, err := json.Marshal(r.Reflect(object))
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	s := schema{}
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	return s, nil
}

// scalar describes the types that write themselves.
func scalar(t reflect.Type) *jsonschema.Schema {
	switch t {
	case reflect.TypeFor[meta.Time]():
		return &jsonschema.Schema{Type: "string", Pattern: `^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$`}
	case reflect.TypeFor[meta.Duration]():
		return &jsonschema.Schema{Type: "string", Pattern: `^[-+]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$`}
	case reflect.TypeFor[meta.ByteSize]():
		return &jsonschema.Schema{Type: "string", Pattern: `^[0-9]+(B|KiB|MiB|GiB)$`}
	default:
		return nil
	}
}

// property returns the part of a schema at a field path; [] stands for a list's items.
func property(s schema, path string) schema {
	for name := range strings.SplitSeq(path, ".") {
		list := strings.HasSuffix(name, "[]")
		s = s["properties"].(schema)[strings.TrimSuffix(name, "[]")].(schema)
		if list {
			s = s["items"].(schema)
		}
	}
	return s
}

// mergeByName makes strategic merges add to lists, or change the entries of the
// same name.
func mergeByName(s schema, paths ...string) {
	for _, path := range paths {
		p := property(s, path)
		p["x-kubernetes-patch-merge-key"], p["x-kubernetes-patch-strategy"] = "name", "merge"
	}
}

// plain leaves of a schema what OpenAPI 2 knows and a merge needs.
func plain(s schema) schema {
	out := schema{}
	for _, k := range []string{"type", "description", "x-kubernetes-group-version-kind", "x-kubernetes-patch-merge-key", "x-kubernetes-patch-strategy"} {
		if v, ok := s[k]; ok {
			out[k] = v
		}
	}
	if properties, ok := s["properties"].(schema); ok {
		all := schema{}
		for name, p := range properties {
			all[name] = plain(p.(schema))
		}
		out["properties"] = all
	}
	for _, k := range []string{"items", "additionalProperties"} {
		if p, ok := s[k].(schema); ok {
			out[k] = plain(p)
		}
	}
	return out
}

// optionalIsNullable lets null stand for an absent field, as the programs do.
func optionalIsNullable(s schema) {
	required, _ := s["required"].([]any)
	properties, _ := s["properties"].(schema)
	for name, v := range properties {
		p, ok := v.(schema)
		if !ok {
			continue // forbidden
		}
		optionalIsNullable(p)
		kind, ok := p["type"].(string)
		if !ok || slices.Contains(required, any(name)) {
			continue
		}
		p["type"] = []any{kind, "null"}
		if values, ok := p["enum"].([]any); ok {
			p["enum"] = append(values, nil)
		}
	}
	if items, ok := s["items"].(schema); ok {
		optionalIsNullable(items)
	}
}

func clone(s schema) (schema, error) {
	data, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	out := schema{}
	if err := json.Unmarshal(data, &out); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	return out, nil
}

func encode(s schema) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return buf.Bytes(), nil
}
