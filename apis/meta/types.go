package meta

// TypeMeta names the schema of a document.
type TypeMeta struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
}

// ObjectMeta is the metadata of a document.
type ObjectMeta struct {
	// Name is the object's name; in the store it is also the base name of its key.
	Name string `json:"name"`
	// Labels select objects; keys and values have Kubernetes' syntax.
	Labels map[string]string `json:"labels,omitempty"`
	// Annotations are carried along and never interpreted.
	Annotations map[string]string `json:"annotations,omitempty"`
	// Generation counts the publications of a Remote. Files synced from git
	// cannot count, so no other kind has it.
	Generation int64 `json:"generation,omitempty"`
}
