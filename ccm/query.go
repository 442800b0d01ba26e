package ccm

import (
	"crypto/x509"
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/opencmg/opencmg"
)

// This file holds the answers to GET queries of .sms_aut (wire.md 7.1).

// An MPList answers .sms_aut?MPLIST, MPLIST1 and MPLIST2.
type MPList []ManagementPoint

type mpListXML struct {
	XMLName xml.Name `xml:"MPList"`
	MP      []mpXML
}

// mpXML carries the FQDN as attribute and as element, since readers of either
// exist.
type mpXML struct {
	Name         string `xml:"Name,attr"`
	FQDNAttr     string `xml:"FQDN,attr"`
	FQDN         string
	SiteCode     string
	Version      string
	Capabilities capabilitiesXML
}

// Encode writes the list. An internet entry has its InternetName as FQDN.
func (l MPList) Encode() string {
	var x mpListXML
	for _, m := range l {
		fqdn := m.InternetName
		if fqdn == "" {
			fqdn = m.IntranetName
		}
		x.MP = append(x.MP, mpXML{Name: m.Name, FQDNAttr: fqdn, FQDN: fqdn, SiteCode: string(m.SiteCode), Version: m.Version, Capabilities: capabilities()})
	}
	return formatXML(x)
}

// ParseMPList reads a list.
func ParseMPList(text string) (MPList, error) {
	var x mpListXML
	if err := parseXML(text, &x); err != nil {
		return nil, fmt.Errorf("management point list: %w", err)
	}
	var l MPList
	for _, m := range x.MP {
		fqdn := m.FQDNAttr
		if fqdn == "" {
			fqdn = m.FQDN
		}
		mp := ManagementPoint{Name: m.Name, SiteCode: opencmg.SiteCode(m.SiteCode), Version: m.Version}
		if strings.Contains(fqdn, "/") {
			mp.InternetName = fqdn
		} else {
			mp.IntranetName = fqdn
		}
		l = append(l, mp)
	}
	return l, nil
}

// MPCert answers .sms_aut?MPCERT with the management point's certificate.
func MPCert(cert *x509.Certificate) string {
	return "<MPCertificate><Certificate>" + FormatCertificate(cert) + "</Certificate></MPCertificate>"
}

// MPCert2 answers .sms_aut?MPCERT2 with its signing and encryption certificate.
func MPCert2(signing, encryption *x509.Certificate) string {
	return `<MPCertificates Signature=""><Certificate1>` + FormatCertificate(signing) + "</Certificate1><Certificate2>" + FormatCertificate(encryption) + "</Certificate2></MPCertificates>"
}

// SiteSignCert answers .sms_aut?SITESIGNCERT.
func SiteSignCert(cert *x509.Certificate) string {
	return `<X509Data><X509Certificate EncodingType="hex">` + FormatCertificate(cert) + "</X509Certificate></X509Data>"
}

// KeyInformation answers .sms_aut?MPKEYINFORMATION and its variants.
type KeyInformation struct {
	SiteCode      opencmg.SiteCode
	MachineName   string
	FQDN          string
	MPCertificate *x509.Certificate
	TrustedRoot   string // hexadecimal PUBLICKEYBLOB
}

type keyInformationXML struct {
	XMLName            xml.Name `xml:"MPKEYINFORMATION"`
	SITECODE           string
	AssignmentSiteCode string
	MACHINENAME        string
	FQDN               string
	MPCERTIFICATE      signedText
	TRUSTEDROOTKEY     signedText
	UnknownMachines    struct {
		X64 string `xml:"x64UnknownMachineGUID"`
		X86 string `xml:"x86UnknownMachineGUID"`
	}
}

type signedText struct {
	Signature string `xml:"Signature,attr"`
	Text      string `xml:",chardata"`
}

// Encode writes the answer. We sign neither part: TLS does.
func (k KeyInformation) Encode() string {
	return formatXML(keyInformationXML{
		SITECODE: string(k.SiteCode), AssignmentSiteCode: string(k.SiteCode), MACHINENAME: k.MachineName, FQDN: k.FQDN,
		MPCERTIFICATE: signedText{Text: FormatCertificate(k.MPCertificate)}, TRUSTEDROOTKEY: signedText{Text: k.TrustedRoot},
	})
}

// TrustedRootKey answers .sms_aut?MPTRK with a hexadecimal PUBLICKEYBLOB.
func TrustedRootKey(key string) string {
	return `<KEYDATA><TRUSTEDROOTKEY Signature="">` + key + "</TRUSTEDROOTKEY></KEYDATA>"
}

// NoAffinity answers .sms_aut?GETCLIENTAFFINITY for a device without users.
const NoAffinity = "<MachineAffinity></MachineAffinity>"
