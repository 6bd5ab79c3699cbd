// Package config reads the configuration of both programs. A flag beats the
// environment, the environment beats the file, and the file is read as
// strictly as any document: what it does not mean to say is an error.
//
// Only cmd uses it: everything else is handed its configuration.
package config
