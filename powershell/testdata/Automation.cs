// The few types of System.Management.Automation that OpenCMG/Types.cs uses, so
// that a machine without PowerShell can compile and try it.

using System;
using System.Collections.Generic;

namespace System.Management.Automation
{
    public class EngineIntrinsics { }

    public abstract class ArgumentTransformationAttribute : Attribute
    {
        public abstract object Transform(EngineIntrinsics engineIntrinsics, object inputData);
    }

    public struct SwitchParameter
    {
        readonly bool present;
        public SwitchParameter(bool present) { this.present = present; }
        public bool IsPresent { get { return present; } }
    }

    public class PSCustomObject { }

    public class PSPropertyInfo
    {
        public string Name { get; set; }
        public object Value { get; set; }
    }

    public class PSObject
    {
        readonly List<PSPropertyInfo> properties = new List<PSPropertyInfo>();
        readonly object inner;
        public PSObject() { inner = new PSCustomObject(); }
        public PSObject(object o) { inner = o; }
        public object BaseObject { get { return inner; } }
        public List<PSPropertyInfo> Properties { get { return properties; } }
    }
}
