package main

import (
	"encoding/xml"
	"fmt"
	"slices"
	"strings"

	"github.com/opencmg/opencmg/adminservice/cmdlet"
)

// The module's identity. The GUID never changes.
const (
	moduleVersion = "0.1.0"
	moduleGUID    = "6b0f4c1e-57d2-4f0a-9d3b-2a8e71c4d905"
)

// byHand are the module's own functions.
var byHand = []string{"Connect-OpenCMG", "Disconnect-OpenCMG"}

// exported are all functions of the module, sorted.
func exported() []string {
	list := slices.Clone(byHand)
	for _, c := range cmdlet.Table() {
		list = append(list, c.Name)
	}
	slices.Sort(list)
	return list
}

// manifest is OpenCMG.psd1.
func manifest() string {
	var b strings.Builder
	b.WriteString(generated)
	fmt.Fprintf(&b, `@{
    RootModule = 'OpenCMG.psm1'
    ModuleVersion = '%s'
    GUID = '%s'
    Author = 'The OpenCMG authors'
    CompanyName = 'OpenCMG'
    Copyright = 'The OpenCMG authors. Licensed under the Apache License 2.0.'
    Description = 'The cmdlets of Configuration Manager for cloud management gateways, for a site of OpenCMG.'
    PowerShellVersion = '5.1'
    # Of Windows PowerShell: older ones can not be told which server certificate to trust.
    DotNetFrameworkVersion = '4.7.1'
    CompatiblePSEditions = @('Desktop', 'Core')
    FormatsToProcess = @('OpenCMG.Format.ps1xml')
    FunctionsToExport = @(
`, moduleVersion, moduleGUID)
	for _, name := range exported() {
		fmt.Fprintf(&b, "        %s\n", quote(name))
	}
	b.WriteString(`    )
    CmdletsToExport = @()
    VariablesToExport = @()
    AliasesToExport = @()
    FileList = @(
`)
	list := []string{"OpenCMG.psd1", "OpenCMG.psm1", "OpenCMG.Format.ps1xml", "Connection.ps1", "Invoke.ps1", "Types.cs"}
	for _, f := range families() {
		list = append(list, "Cmdlets/"+f.name+".ps1")
	}
	for _, name := range list {
		fmt.Fprintf(&b, "        %s\n", quote(name))
	}
	b.WriteString(`    )
    PrivateData = @{
        PSData = @{
            Tags = @('ConfigurationManager', 'CMG', 'Windows', 'Linux', 'MacOS')
        }
    }
}
`)
	return b.String()
}

// views is OpenCMG.Format.ps1xml: a table for each class.
func views() string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="utf-8"?>
<!-- Generated from the table of cmdlets: go generate ./adminservice/cmdlet. Do not edit. -->
<Configuration>
  <ViewDefinitions>
`)
	for _, class := range cmdlet.TableClasses() {
		columns := cmdlet.Columns(class)
		fmt.Fprintf(&b, "    <View>\n      <Name>OpenCMG.%s</Name>\n      <ViewSelectedBy>\n        <TypeName>OpenCMG.%s</TypeName>\n      </ViewSelectedBy>\n      <TableControl>\n        <TableHeaders>\n", class, class)
		for _, c := range columns {
			fmt.Fprintf(&b, "          <TableColumnHeader>\n            <Label>%s</Label>\n          </TableColumnHeader>\n", c)
		}
		b.WriteString("        </TableHeaders>\n        <TableRowEntries>\n          <TableRowEntry>\n            <TableColumnItems>\n")
		for _, c := range columns {
			fmt.Fprintf(&b, "              <TableColumnItem>\n                %s\n              </TableColumnItem>\n", cell(class, c))
		}
		b.WriteString("            </TableColumnItems>\n          </TableRowEntry>\n        </TableRowEntries>\n      </TableControl>\n    </View>\n")
	}
	b.WriteString("  </ViewDefinitions>\n</Configuration>\n")
	return b.String()
}

// cell is what a column shows: the property, or what the command line makes of it.
func cell(class, property string) string {
	script := ""
	switch {
	case class == "SMS_AzureService" && property == "State":
		var words []string
		for _, s := range cmdlet.States() {
			words = append(words, fmt.Sprintf("'%s' { '%s' }", s, cmdlet.StateWord(s)))
		}
		script = `switch ("$($_.State)") { ` + strings.Join(words, " ") + " default { $_ } }"
	case property == "NetworkOSPath":
		script = `"$($_.NetworkOSPath)".TrimStart('\')`
	case property == "Props":
		script = `@($_.Props | ForEach-Object -Process { $value = $_.Value1; if (-not $value) { $value = $_.Value }; "$($_.PropertyName)=$value" }) -join ' '`
	case property == "SiteSystems":
		script = `@($_.SiteSystems) -join ', '`
	default:
		return "<PropertyName>" + property + "</PropertyName>"
	}
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(script)); err != nil {
		panic(err) // a Builder takes everything
	}
	return "<ScriptBlock>" + b.String() + "</ScriptBlock>"
}
