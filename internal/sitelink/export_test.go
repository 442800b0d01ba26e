package sitelink

// FactsOf is what of a report makes it go out at once.
var FactsOf = factsOf

// ReportApart is the least time between two reports.
const ReportApart = reportApart
