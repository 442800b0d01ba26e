package declared_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/opencmg/opencmg/adminservice/declared"
)

var update = flag.Bool("update", false, "write the generated schema")

const (
	schemaFile    = "../../docs/reference/declared.schema.json"
	referenceFile = "../../docs/reference/declared.md"
)

// enums are the values of keys that have only some.
var enums = map[string][]string{
	"Document.apiVersion":      {declared.APIVersion},
	"Tenant.environment":       {"AzurePublicCloud", "AzureUSGovernmentCloud", "AzureLab"},
	"Application.kind":         {"ServerApplication", "ClientApplication"},
	"TrustedCertificate.store": {"RootCA", "IntermediateCA"},
	"SiteRole.kind":            {"management-point", "software-update-point", "admin-service", "service"},
	"Gateway.model":            {"VirtualMachineScaleSet", "SelfHosted", "Classic"},
	"Gateway.minTls":           {"1.2", "1.3"},
	"ACME.challenge":           {"http-01", "tls-alpn-01"},
}

// comments are what document.go says about types and their fields.
func comments(t *testing.T) map[string]string {
	t.Helper()
	f := must(parser.ParseFile(token.NewFileSet(), "document.go", nil, parser.ParseComments))(t)
	docs := map[string]string{}
	words := func(groups ...*ast.CommentGroup) string {
		var b strings.Builder
		for _, g := range groups {
			b.WriteString(g.Text() + " ")
		}
		return strings.Join(strings.Fields(b.String()), " ")
	}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		for _, spec := range g.Specs {
			ts := spec.(*ast.TypeSpec)
			docs[ts.Name.Name] = words(g.Doc)
			for _, field := range ts.Type.(*ast.StructType).Fields.List {
				for _, id := range field.Names {
					docs[ts.Name.Name+"."+id.Name] = words(field.Doc, field.Comment)
				}
			}
		}
	}
	return docs
}

// schemaOf writes the schema of a type; structs go into defs.
func schemaOf(typ reflect.Type, docs map[string]string, defs map[string]any) map[string]any {
	switch typ.Kind() {
	case reflect.Pointer:
		return schemaOf(typ.Elem(), docs, defs)
	case reflect.Slice:
		return map[string]any{"type": "array", "items": schemaOf(typ.Elem(), docs, defs)}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.String:
		return map[string]any{"type": "string"}
	}
	name := typ.Name()
	ref := map[string]any{"$ref": "#/$defs/" + name}
	if defs[name] != nil {
		return ref
	}
	properties, required := map[string]any{}, []string{}
	object := map[string]any{"type": "object", "description": docs[name], "additionalProperties": false, "properties": properties}
	defs[name] = object
	for i := range typ.NumField() {
		f := typ.Field(i)
		key, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		s := schemaOf(f.Type, docs, defs)
		if d := docs[name+"."+f.Name]; d != "" {
			s["description"] = d
		}
		if list := enums[name+"."+key]; list != nil {
			s["enum"] = list
		}
		properties[key] = s
		if !strings.Contains(options, "omitempty") && (f.Type.Kind() != reflect.Slice || name == "Endpoint") {
			required = append(required, key)
		}
	}
	if len(required) > 0 {
		object["required"] = required
	}
	return ref
}

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	doc := must(jsonschema.UnmarshalJSON(bytes.NewReader(must(os.ReadFile(schemaFile))(t))))(t)
	if err := c.AddResource("declared.json", doc); err != nil {
		t.Fatal(err)
	}
	return must(c.Compile("declared.json"))(t)
}

// TestSchema holds the published schema to the types.
func TestSchema(t *testing.T) {
	defs := map[string]any{}
	root := schemaOf(reflect.TypeFor[declared.Document](), comments(t), defs)
	root["$schema"], root["title"], root["$defs"] = "https://json-schema.org/draft/2020-12/schema", "Declared state of an OpenCMG site ("+declared.APIVersion+")", defs
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(root); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(schemaFile, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(b.String(), string(must(os.ReadFile(schemaFile))(t))); diff != "" {
		t.Errorf("the schema is not that of the types; write it with go test ./adminservice/declared -run Schema -update\n%s", diff)
	}
	// Every value of a choice is one that Parse takes, too.
	for key, list := range enums {
		if len(list) == 0 || defs[strings.Split(key, ".")[0]] == nil {
			t.Errorf("%s: there is no such key", key)
		}
	}
}

// valid checks a file against the schema.
func valid(t *testing.T, schema *jsonschema.Schema, what, file string) {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(file), &v); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	doc := must(jsonschema.UnmarshalJSON(strings.NewReader(jsonOf(t, v))))(t)
	if err := schema.Validate(doc); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// TestExportIsValid: what export writes is what the schema says.
func TestExportIsValid(t *testing.T) {
	r, file := build(t)
	schema := compileSchema(t)
	valid(t, schema, "the file", file)
	valid(t, schema, "the export", r.export())
	doc := must(jsonschema.UnmarshalJSON(strings.NewReader(`{"apiVersion":"opencmg/v1","gateways":[{"name":"abc","isntances":1}]}`)))(t)
	if schema.Validate(doc) == nil {
		t.Error("the schema takes unknown keys")
	}
}

// TestReference: the example of the reference is one.
func TestReference(t *testing.T) {
	text := string(must(os.ReadFile(referenceFile))(t))
	_, rest, found := strings.Cut(text, "```yaml\n")
	example, _, ended := strings.Cut(rest, "```")
	if !found || !ended {
		t.Fatal("the reference has no example")
	}
	d, err := declared.Parse([]byte(example), "declared.md")
	if err != nil {
		t.Fatal(err)
	}
	valid(t, compileSchema(t), "the example", example)
	// It shows every section.
	v := reflect.ValueOf(*d)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Errorf("the example has no %s", v.Type().Field(i).Name)
		}
	}
	// And the text has every key.
	for _, typ := range []any{declared.Document{}, declared.Tenant{}, declared.Application{}, declared.Credential{}, declared.AzureService{}, declared.TrustedCertificate{},
		declared.TokenIssuer{}, declared.SiteRole{}, declared.Endpoint{}, declared.Gateway{}, declared.Threshold{}, declared.ServerCertificate{}, declared.ACME{},
		declared.ConnectionPoint{}, declared.DefaultBoundaryGroup{}, declared.BoundaryGroup{}, declared.ClientSettings{}} {
		v := reflect.TypeOf(typ)
		for i := range v.NumField() {
			key, _, _ := strings.Cut(v.Field(i).Tag.Get("yaml"), ",")
			if !strings.Contains(text, key) {
				t.Errorf("the reference does not mention %s of %s", key, v.Name())
			}
		}
	}
}
