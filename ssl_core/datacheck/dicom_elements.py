"""Step 1 of 12: which elements of a DICOM header may tell of a person, by DICOM PS3.15 (2024b), table E.1-1.

Goes out: `may_tell(keyword, vr)`, a bool; pydicom carries no such list. By value representation: names of people (PN), dates
and times (DA, DT, TM), application entities (AE), ages (AS), addresses on a network (UR) and text of any length (LT, ST, UC,
UT), which is more than the table lists; by keyword, of the short texts (LO, SH) and of bytes those that the table lists, with a
few that say the same and are not in it. `EXCEPTIONS`: what the table lists, or the rule would take, and is left out, and why.
"""

from __future__ import annotations

from types import MappingProxyType

CLOCKS = frozenset({"DA", "DT", "TM"})
_ALL_OF = CLOCKS | {"PN", "AE", "AS", "UR", "LT", "ST", "UC", "UT"}

_PERSON = """
IssuerOfPatientID OtherPatientIDs OtherPatientIDsSequence PatientAddress PatientTelephoneNumbers InsurancePlanIdentification
PatientInsurancePlanCodeSequence MilitaryRank BranchOfService MedicalRecordLocator MedicalAlerts Allergies CountryOfResidence
RegionOfResidence PatientReligiousPreference PatientPrimaryLanguageCodeSequence EthnicGroup EthnicGroupCodeSequence
Occupation ResponsibleOrganization PatientBirthDateInAlternativeCalendar PatientDeathDateInAlternativeCalendar
AdmissionID IssuerOfAdmissionID ServiceEpisodeID IssuerOfServiceEpisodeID ServiceEpisodeDescription SpecialNeeds PatientState
CurrentPatientLocation PatientInstitutionResidence ScheduledPatientInstitutionResidence PatientTransportArrangements
AdmittingDiagnosesDescription AdmittingDiagnosesCodeSequence DischargeDiagnosisDescription PreMedication
ConfidentialityConstraintOnPatientDataDescription ReferencedPatientPhotoSequence
"""
_PLACES_AND_STAFF = """
InstitutionName InstitutionCodeSequence InstitutionalDepartmentName InstitutionalDepartmentTypeCodeSequence StationName
ScheduledStationName PerformedStationName ScheduledStationNameCodeSequence PerformedStationNameCodeSequence
ScheduledStationGeographicLocationCodeSequence PerformedStationGeographicLocationCodeSequence PerformedLocation
ScheduledProcedureStepLocation RequestedProcedureLocation ScheduledStudyLocation RequestingService HumanPerformerOrganization
VerifyingOrganization PersonIdentificationCodeSequence PersonTelephoneNumbers TelephoneNumberTrial OrderEntererLocation
ReferringPhysicianTelephoneNumbers OrderCallbackPhoneNumber DistributionAddress TopicAuthor OwnerID TimezoneOffsetFromUTC
"""
_STUDY = """
AccessionNumber StudyID StudyIDIssuer StudyDescription SeriesDescription PyramidDescription PyramidLabel ProtocolName
AcquisitionProtocolName RequestedProcedureID RequestedProcedureDescription RequestedProcedureDescriptionTrial
RequestedSeriesDescription RequestedContrastAgent ContrastBolusAgent ScheduledProcedureStepID PerformedProcedureStepID
ScheduledProcedureStepDescription PerformedProcedureStepDescription PerformedProcedureTypeDescription ReasonForStudy
ReasonForTheRequestedProcedure ReasonForRequestedProcedureCodeSequence ReasonForVisitCodeSequence
ReasonForTheImagingServiceRequest PlacerOrderNumberImagingServiceRequest FillerOrderNumberImagingServiceRequest
PlacerOrderNumberImagingServiceRequestRetired FillerOrderNumberImagingServiceRequestRetired PlacerOrderNumberProcedure
FillerOrderNumberProcedure ModifiedImageDescription AcquisitionFieldOfViewLabel AcquisitionDeviceProcessingDescription
TopicTitle TopicKeywords TextString ResultsID ResultsIDIssuer InterpretationID InterpretationIDIssuer AnnotationGroupLabel
ClinicalTrialSponsorName ClinicalTrialProtocolID ClinicalTrialProtocolName IssuerOfClinicalTrialProtocolID ClinicalTrialSiteID
ClinicalTrialSiteName IssuerOfClinicalTrialSiteID ClinicalTrialSubjectID IssuerOfClinicalTrialSubjectID
ClinicalTrialSubjectReadingID IssuerOfClinicalTrialSubjectReadingID ClinicalTrialTimePointID IssuerOfClinicalTrialTimePointID
ClinicalTrialCoordinatingCenterName ClinicalTrialSeriesID ClinicalTrialSeriesDescription IssuerOfClinicalTrialSeriesID
ClinicalTrialProtocolEthicsCommitteeName ClinicalTrialProtocolEthicsCommitteeApprovalNumber
"""
_DEVICES_AND_SAMPLES = """
DeviceSerialNumber DeviceID PlateID GeneratorID GridID CassetteID GantryID DetectorID SecondaryCaptureDeviceID
HardcopyCreationDeviceID ModifyingDeviceID ModifyingSystem SourceOfPreviousValues DeviceDescription DeviceLabel
SourceManufacturer SourceSerialNumber ContainerIdentifier ContainerDescription ContainerComponentID SpecimenIdentifier
SpecimenAccessionNumber SpecimenShortDescription SlideIdentifier TreatmentMachineName RTAccessoryHolderSlotID
RTAccessoryDeviceSlotID
"""
_RADIOTHERAPY = """
StructureSetLabel StructureSetName ROIName ROIGenerationDescription ROIObservationLabel RTPlanLabel RTPlanName TreatmentSites
TreatmentSite DoseReferenceDescription FractionGroupDescription TreatmentPositionGroupLabel RadiationDoseIdentificationLabel
RadiationDoseInVivoMeasurementLabel RadiationGenerationModeLabel RTToleranceSetLabel DisplacementReferenceLabel
ReasonForOmissionDescription UserContentLabel UserContentLongLabel EntityLabel EntityName EntityLongLabel RTPrescriptionLabel
RTTreatmentApproachLabel PositionAcquisitionTemplateName
"""
# What only a picture or a program can show: drawn text, documents, places, values that an element may not hold.
_BYTES_AND_CODES = """
OverlayData CurveData IconImageSequence EncapsulatedDocument MakerNote DataSetTrailingPadding NonconformingDataElementValue
CertificateOfSigner SelectorLOValue SelectorSHValue SelectorOBValue SelectorUNValue GPSLatitude GPSLongitude GPSDestLatitude
GPSDestLongitude GPSAreaInformation GPSProcessingMethod GPSTimeStamp GPSDateStamp
"""

EXCEPTIONS = MappingProxyType(
    {
        "of the disease, the body or the habits of millions; names nobody": frozenset(
            "PatientSex PatientSexNeutered PatientSize PatientWeight PregnancyStatus SmokingStatus".split()
        ),
        "of a coding scheme, written by those who keep it": frozenset(
            "CodingSchemeName CodingSchemeResponsibleOrganization CodingSchemeExternalID CodingSchemeURL URNCodeValue "
            "LongCodeValue ExtendedCodeMeaning ContextGroupVersion TemplateVersion".split()
        ),
        "of a kind of camera; what it measures": frozenset(
            "EXIFVersion SpectralSensitivity OECFColumnNames SpatialFrequencyResponseColumnNames".split()
        ),
    }
)
"""Reason -> keywords. Besides: no UID (UI) is reported, since each file has them and one that was replaced looks like another;
nor the PatientID at the top of a header that a source reads as the patient's id (headers.py)."""

_LEFT_OUT = frozenset[str]().union(*EXCEPTIONS.values())
NAMED = frozenset((_PERSON + _PLACES_AND_STAFF + _STUDY + _DEVICES_AND_SAMPLES + _RADIOTHERAPY + _BYTES_AND_CODES).split())


def may_tell(keyword: str, vr: str) -> bool:
    """Is an element of this keyword and value representation one that may tell of a person?"""
    return keyword in NAMED or (vr in _ALL_OF and keyword not in _LEFT_OUT)
