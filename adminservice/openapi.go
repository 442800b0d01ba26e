package adminservice

import _ "embed"

//go:embed openapi.yaml
var openAPI []byte

// OpenAPI is the description of the resources below [BasePath] in OpenAPI 3.1,
// as YAML. A test of package site holds it to the routes and to the types of
// this package. The caller must not change it.
func OpenAPI() []byte { return openAPI }
