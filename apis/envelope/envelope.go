package envelope

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/npcnix/npcnix/apis/meta"
)

// Kind is the kind of a signature.
const Kind = "DocumentSignature"

// DocumentSignature signs the document before it.
type DocumentSignature struct {
	meta.TypeMeta

	Metadata meta.ObjectMeta `json:"metadata"`
	// Subject is the signed document's key, relative to the store.
	Subject string `json:"subject"`
	// Serial is a Remote's generation, else the Unix time of signing.
	Serial int64 `json:"serial"`
	// ExpiresAt ends the signature's force; absent: never.
	ExpiresAt *meta.Time `json:"expiresAt,omitempty"`
	// Signatures are of one or more keys; any that is trusted suffices.
	Signatures []Signature `json:"signatures"`
}

// Signature is one key's.
type Signature struct {
	KeyName   string `json:"keyName"`
	Signature string `json:"signature"`
}

// Validate returns what every signature must have.
func (d *DocumentSignature) Validate() field.ErrorList {
	var errs field.ErrorList
	if d.Subject == "" {
		errs = append(errs, field.Required(field.NewPath("subject"), "the key of the signed document"))
	}
	if len(d.Signatures) == 0 {
		errs = append(errs, field.Required(field.NewPath("signatures"), ""))
	}
	return errs
}
